import { useEffect, useState } from "preact/hooks";

/** The conversation that is open. */
export interface Open {
  readonly sessionId: string;
  /** Who else is in a direct one that is not in the list yet. */
  readonly peer?: string;
}

/** What the browser's history keeps with an entry: which conversation is open, on whose device. */
interface Entry {
  readonly device: string;
  readonly open: Open;
}

function opened(device: string): Open | undefined {
  const entry = history.state as Entry | null;
  return entry?.device === device ? entry.open : undefined; // another's, who was signed in here before, is not opened
}

/**
 * The open conversation, and how to open another, or none. It is kept in the browser's history: a reload leaves it open, and
 * the browser's way back leads from a conversation to the list.
 */
export function useOpen(device: string): [Open | undefined, (next: Open | undefined) => void] {
  const [open, setOpen] = useState(() => opened(device));
  useEffect(() => {
    const moved = (): void => setOpen(opened(device));
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, [device]);
  const show = (next: Open | undefined): void => {
    if (!next) return opened(device) ? history.back() : setOpen(undefined);
    const entry: Entry = { device, open: next };
    if (opened(device)) history.replaceState(entry, "");
    else history.pushState(entry, "");
    setOpen(next);
  };
  return [open, show];
}
