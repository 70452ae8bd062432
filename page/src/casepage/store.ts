import { useEffect, useState } from "preact/hooks";

/** A value that parts of the page read and are told of when it changes. */
export class Store<T extends object> {
  private readonly listeners = new Set<() => void>();

  constructor(private value: T) {}

  get(): T {
    return this.value;
  }

  set(change: Partial<T>): void {
    this.value = { ...this.value, ...change };
    for (const listener of [...this.listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** The part of a store that a component shows; it is drawn again when that part changes. */
export function useStore<T extends object, P>(store: Store<T>, part: (value: T) => P): P {
  const [shown, show] = useState(() => ({ value: part(store.get()) }));
  useEffect(() => {
    const look = () => {
      const value = part(store.get());
      show((old) => (Object.is(old.value, value) ? old : { value }));
    };
    look();
    return store.subscribe(look);
  }, [store]);
  return shown.value;
}
