import type { Message, Session } from "@parley-im/client";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { summary } from "./format.js";
import { explain, Icon } from "./parts.js";

/** What was being written, by session, while another is shown. */
const drafts = new Map<string, string>();

/** Forgets them all: the next who signs in on this page may be somebody else. */
export function forgetDrafts(): void {
  drafts.clear();
}

/** The longest text, in bytes of UTF-8. */
const maxBytes = 16 << 10;

export function Composer(props: { session: Session; title: string; answering: Message | undefined; me: string; onAnswered: () => void }): JSX.Element {
  const { session, answering } = props;
  const [text, setText] = useState(() => drafts.get(session.sessionId) ?? "");
  const [error, setError] = useState("");
  const box = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const el = box.current!;
    el.style.height = "auto";
    el.style.height = `${Math.min(el.scrollHeight, 160)}px`;
  }, [text]);
  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) box.current?.focus();
    return () => session.setTyping(false);
  }, []);
  useEffect(() => void (answering && box.current?.focus()), [answering]);
  const write = (value: string): void => {
    setText(value);
    drafts.set(session.sessionId, value);
    session.setTyping(value !== "");
  };
  const send = (): void => {
    const body = text.trim();
    if (!body) return;
    const bytes = new TextEncoder().encode(body).length;
    if (bytes > maxBytes) return setError(`That is ${bytes - maxBytes} bytes too long.`);
    try {
      session.send(body, answering ? { replyToSeq: answering.seq } : {}).sent.catch(() => {}); // the message says it itself
      setError("");
      write("");
      props.onAnswered();
    } catch (err) {
      setError(explain(err));
    }
  };
  return (
    <form class="composer" onSubmit={(e) => {
      e.preventDefault();
      send();
      box.current?.focus();
    }}>
      {answering && (
        <div class="answering">
          <Icon name="reply" />
          <span class="grow"><b><bdi>{answering.senderId === props.me ? "You" : answering.senderId}</bdi></b> <bdi>{summary(answering, props.me)}</bdi></span>
          <button type="button" class="icon-button" aria-label="Do not reply" onClick={props.onAnswered}><Icon name="close" /></button>
        </div>
      )}
      {error && <p class="error" role="alert">{error}</p>}
      <div class="row">
        <textarea ref={box} rows={1} dir="auto" aria-label={`Message to ${props.title}`} placeholder={`Message ${props.title}`} value={text} enterkeyhint="send"
          onInput={(e) => write(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
              e.preventDefault();
              send();
            } else if (e.key === "Escape" && answering) props.onAnswered();
          }} />
        <button type="submit" class="send" aria-label="Send" disabled={!text.trim()}><Icon name="send" /></button>
      </div>
    </form>
  );
}
