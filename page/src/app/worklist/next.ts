/** Which case a reader is given next. */

import { worklist, type CaseRow, type WorklistQuery } from "../../api";
import { EVERYTHING } from "./query";

/** The first row that `name` may begin: theirs to confirm, or nobody's. `except`: the case that they come from. */
export function firstFree(rows: readonly CaseRow[], name: string, except = ""): CaseRow | null {
  return (
    rows.find((row) => {
      if (row.key === except) return false;
      if (row.state === "awaiting_second") return row.secondReader === name && row.reader !== name;
      return row.state === "unreviewed" && (row.reader === null || row.reader === name);
    }) ?? null
  );
}

/**
 * The key of the case that most needs eyes and that nobody has taken, null if there is none. Cases that wait for
 * `name` as second reader come first. `within`: the filters to stay in.
 */
export async function nextCase(name: string, except = "", within: WorklistQuery = EVERYTHING): Promise<string | null> {
  const wanted = { ...within, order: "-priority", offset: 0 };
  const mine = await worklist({ ...wanted, states: ["awaiting_second"], reader: name, limit: 50 });
  const waiting = firstFree(mine.cases, name, except);
  if (waiting) return waiting.key;
  const open = await worklist({ ...wanted, states: ["unreviewed"], reader: "", limit: 50 });
  return firstFree(open.cases, name, except)?.key ?? null;
}
