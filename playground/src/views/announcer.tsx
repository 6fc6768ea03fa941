/** One polite live region: what happened, in a sentence, for people who do not see the page. */

import { Store, useStore } from "../state/store";

const said = new Store<string>("");

export function announce(sentence: string): void {
  // The same sentence twice would not be read again; an invisible mark makes it new.
  said.update((before) => (before === sentence ? `${sentence}\u200B` : sentence));
}

export function Announcer() {
  const sentence = useStore(said);
  return (
    <p class="offscreen" role="status" aria-live="polite">
      {sentence}
    </p>
  );
}
