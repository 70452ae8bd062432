/** Those who want to be told. */
export class Listeners<Facts extends unknown[]> {
  readonly #all = new Set<(...facts: Facts) => void>();

  /** Gives back what takes the listener away again. */
  add(listener: (...facts: Facts) => void): () => void {
    this.#all.add(listener);
    return () => this.#all.delete(listener);
  }

  tell(...facts: Facts): void {
    for (const listener of [...this.#all]) listener(...facts);
  }
}
