/** The smallest observable value that Preact components can follow. */

import { useEffect, useReducer } from "preact/hooks";

export class Store<T> {
  private value: T;
  private readonly listeners = new Set<() => void>();

  constructor(initial: T) {
    this.value = initial;
  }

  get(): T {
    return this.value;
  }

  set(next: T): void {
    if (Object.is(next, this.value)) return;
    this.value = next;
    for (const listener of [...this.listeners]) listener();
  }

  update(change: (value: T) => T): void {
    this.set(change(this.value));
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [, redraw] = useReducer<number, void>((count) => count + 1, 0);
  const seen = store.get();
  useEffect(() => {
    const stop = store.subscribe(() => redraw());
    // The value may have changed between the render and this subscription.
    if (!Object.is(seen, store.get())) redraw();
    return stop;
  }, [store]);
  return seen;
}
