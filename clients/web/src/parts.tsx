// Small parts that all pages share.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { hue, initials } from "./format.js";

const icons = {
  back: "M15 5l-7 7 7 7",
  plus: "M12 5v14M5 12h14",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  send: "M5 12l14-7-5 14-3-6-6-1z",
  info: "M12 11v5M12 8h.01M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  gear: "M4 7h10M18 7h2M4 17h2M10 17h10M14 7a2 2 0 1 0 4 0 2 2 0 0 0-4 0zM6 17a2 2 0 1 0 4 0 2 2 0 0 0-4 0z",
  pin: "M9 4h6l-1 6 3 3H7l3-3-1-6zM12 13v7",
  bell: "M4 4l16 16M9 6a5 5 0 0 1 8 4c0 3 1 4 2 6H9M6 11c0 2-1 4-2 5h8M10 19a2 2 0 0 0 4 0",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4",
  reply: "M9 7l-5 5 5 5M4 12h10a6 6 0 0 1 6 6",
};

export function Icon({ name }: { name: keyof typeof icons }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={icons[name]} />
    </svg>
  );
}

export function Logo(): JSX.Element {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="9" />
      <path d="M9 8.500h14a2.5 2.5 0 0 1 2.5 2.500v8a2.5 2.5 0 0 1-2.5 2.500h-7.200L11 25.300v-3.8H9A2.5 2.5 0 0 1 6.5 19v-8A2.5 2.5 0 0 1 9 8.500z" />
    </svg>
  );
}

export function Avatar({ name, online, small }: { name: string; online?: boolean | undefined; small?: boolean }): JSX.Element {
  return (
    <span class={`avatar hue-${hue(name)}${small ? " small" : ""}`} aria-hidden="true">
      {initials(name)}
      {online && <span class="dot" />}
    </span>
  );
}

/** Where a message stands: a clock, one tick, two ticks. */
export function Ticks({ state, label }: { state: "pending" | "sent" | "read" | "failed"; label: string }): JSX.Element {
  const path = {
    pending: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 5v3l2 1.5",
    sent: "M3 8.500l3.5 3.500L14 4.500",
    read: "M1 8.500L4.500 12 11 4.500M9 11.500l.5.5L17 4.500",
    failed: "M8 4v5M8 12h.01",
  }[state];
  return (
    <span class={`ticks ${state}`} title={label}>
      <svg viewBox="0 0 18 16" aria-hidden="true"><path d={path} /></svg>
      <span class="sr">{label}</span>
    </span>
  );
}

export interface MenuItem {
  readonly label: string;
  readonly run: () => void;
  readonly danger?: boolean;
}

/** A button with a menu: arrow keys move, Escape and a click elsewhere close, and focus returns to the button. */
export function Menu(props: { label: string; icon?: keyof typeof icons; items: readonly MenuItem[]; class?: string }): JSX.Element {
  const { label, icon = "more", items } = props;
  const [open, setOpen] = useState(false);
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  useLayoutEffect(() => {
    if (!open) return;
    const box = list.current!;
    // Upwards where there is no room below.
    box.classList.toggle("up", box.getBoundingClientRect().bottom > innerHeight - 8);
    box.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    const elsewhere = (e: PointerEvent): void => {
      if (!box.parentElement?.contains(e.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", elsewhere);
    return () => removeEventListener("pointerdown", elsewhere);
  }, [open]);
  const keys = (e: KeyboardEvent): void => {
    if (!open) return;
    const all = [...list.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 }[e.key];
    if (e.key === "Escape") {
      e.stopPropagation();
      close();
    } else if (e.key === "Tab") setOpen(false);
    if (to === undefined) return;
    e.preventDefault();
    all[to % all.length]?.focus();
  };
  return (
    <span class={`menu ${props.class ?? ""}${open ? " is-open" : ""}`} onKeyDown={keys}>
      <button ref={button} type="button" class="icon-button" aria-label={label} title={label} aria-haspopup="menu" aria-expanded={open}
        aria-controls={open ? id : undefined} onClick={() => setOpen(!open)}>
        <Icon name={icon} />
      </button>
      {open && (
        <div ref={list} id={id} class="menu-list" role="menu" aria-label={label}>
          {items.map((item) => (
            <button key={item.label} type="button" role="menuitem" tabIndex={-1} class={item.danger ? "danger" : ""}
              onClick={() => {
                close();
                item.run();
              }}>
              {item.label}
            </button>
          ))}
        </div>
      )}
    </span>
  );
}

/** A modal dialog: the browser keeps focus inside and returns it. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }): JSX.Element {
  const box = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = box.current!;
    if (!dialog.open) dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog ref={box} aria-labelledby={id} onClose={onClose} onClick={(e) => e.target === box.current && box.current?.close()}>
      <div class="dialog">
        <header>
          <h2 id={id}>{title}</h2>
          <button type="button" class="icon-button" aria-label="Close" onClick={() => box.current?.close()}><Icon name="close" /></button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** Runs something that may fail, and keeps what it said. */
export function useAction(): { busy: boolean; error: string; run: (what: () => Promise<unknown>) => Promise<boolean> } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const run = async (what: () => Promise<unknown>): Promise<boolean> => {
    setBusy(true);
    setError("");
    try {
      await what();
      return true;
    } catch (err) {
      setError(explain(err));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, error, run };
}

/** An error in words for people. */
export function explain(err: unknown): string {
  const { reason, message, metadata } = err as { reason?: string; message?: string; metadata?: Record<string, string> };
  if (metadata?.["rule"]?.endsWith(".max_bytes")) return "That is too long.";
  const known: Record<string, string> = {
    RECIPIENT_UNAVAILABLE: "This person cannot be written to. Perhaps the name is wrong.",
    RECIPIENT_BLOCKED_BY_YOU: "You have blocked this person.",
    USER_UNAVAILABLE: "There is nobody of that name here.",
    SESSION_UNAVAILABLE: "You are not in this conversation.",
    ROLE_TOO_LOW: "Only admins may do that.",
    MUTED: "An admin has muted you here.",
    LAST_OWNER: "A group needs an owner: make somebody else the owner first.",
    NOT_RECALLABLE: "You may not recall this message.",
    SELF_TARGET: "That is you.",
    GROUP_FULL: "The group is full.",
    UNREACHABLE: "The server cannot be reached.",
    TOKEN_INVALID: "The server does not accept this token.",
    TOKEN_EXPIRED: "The token is out of date: get a new one.",
  };
  return (reason && known[reason]) || message || String(err);
}

export function ErrorText({ text }: { text: string }): JSX.Element {
  return <p class="error" role="alert">{text}</p>;
}
