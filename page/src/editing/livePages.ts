/** Which opened cases of this browser, in any of its tabs, are still there: a crash ends them too. */

export interface LivePages {
  /** Says that a page is there, until what it resolves to is called or the page ends in any other way. */
  enter(page: string): Promise<() => void>;
  alive(): Promise<ReadonlySet<string>>;
}

const PREFIX = "delineate-review ";

/** By the browser's locks, which it releases itself when a page ends. */
export function livePages(locks: LockManager | undefined = globalThis.navigator?.locks): LivePages {
  if (!locks) return { enter: async () => () => undefined, alive: async () => new Set() };
  return {
    enter(page) {
      return new Promise((entered, failed) => {
        const held = () => new Promise<void>((release) => entered(() => release()));
        locks.request(PREFIX + page, held).catch(failed);
      });
    },
    async alive() {
      const { held = [] } = await locks.query();
      const names = held.map(({ name = "" }) => name).filter((name) => name.startsWith(PREFIX));
      return new Set(names.map((name) => name.slice(PREFIX.length)));
    },
  };
}
