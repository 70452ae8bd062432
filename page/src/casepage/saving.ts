/** Between the queue and the server's routes; and what to tell people of it. */

import * as api from "../api";
import { ApiError } from "../api";
import { counted } from "../app/words";
import type { ProposalAnswer, ProposalHost } from "../editing/proposals";
import type { Merged, Queue, RemoteEdit } from "../editing/queue";
import { waitingEdits } from "../editing/queue";
import { decodeRuns, encodeRuns } from "../editing/runs";
import type { Failure, Sender, Server } from "../editing/sender";

export function caseServer(key: string): Server {
  return {
    async store({ layer, tool, parameters, runs }, baseRevision) {
      const edit = { baseRevision, layer, tool, parameters, runs: encodeRuns(runs) };
      return (await api.addEdit(key, edit)).revision;
    },
    async operate({ name, layer, structure, parameters }, baseRevision) {
      if (name === "undo" || name === "redo") {
        const result = await (name === "undo" ? api.undo : api.redo)(key, baseRevision);
        return { ...result, runs: decodeRuns(result.runs), note: null };
      }
      const result = await api.runTool(key, name, { baseRevision, layer, structure, parameters });
      return { ...result, runs: decodeRuns(result.runs) };
    },
    async editsAfter(revision) {
      const edits: RemoteEdit[] = [];
      for (let after = revision, more = true; more; after = edits.at(-1)?.revision ?? after) {
        const some = await api.editsAfter(key, after);
        edits.push(...some.edits.map((edit) => ({ ...edit, runs: decodeRuns(edit.runs) })));
        more = some.more;
      }
      return edits;
    },
  };
}

/** Asks for a proposal upon the labels as they are here, once all strokes are stored. */
export async function askProposal(
  key: string,
  sender: Sender,
  ...[prompts, { structure, layer }, method, signal]: Parameters<ProposalHost["ask"]>
): Promise<ProposalAnswer> {
  const points = [...prompts.points];
  const scribbles = [...prompts.scribbles];
  await sender.settled();
  const ask = () => {
    const request = { structure, layer, points, scribbles, box: prompts.box, method };
    return api.propose(key, { ...request, baseRevision: sender.state.revision }, signal);
  };
  const answer = await ask().catch(async (problem: unknown) => {
    if (!(problem instanceof ApiError) || problem.revision === null) throw problem;
    await sender.catchUp(problem.revision);
    return ask();
  });
  return { ...answer, runs: decodeRuns(answer.runs) };
}

export function failureOf(problem: unknown): Failure {
  if (!(problem instanceof ApiError)) {
    return { kind: "refused", text: problem instanceof Error ? problem.message : String(problem) };
  }
  if (problem.status === 409 && problem.revision !== null) return { kind: "stale" };
  if (problem.status === 401) return { kind: "signed-out", text: "You are signed out. Sign in again to save." };
  if (problem.transient) return { kind: "offline", text: problem.problem };
  return { kind: "impossible", text: problem.message };
}

/** "All saved", "Saving…", "Offline, 3 strokes waiting". */
export function saveText(queue: Queue): string {
  const waiting = waitingEdits(queue).length;
  if (queue.items.length === 0) return "All saved";
  switch (queue.trouble?.kind) {
    case "offline":
      return `Offline, ${counted(waiting, "stroke")} waiting`;
    case "signed-out":
      return `Signed out, ${counted(waiting, "stroke")} waiting`;
    case "refused":
      return `Not saved, ${counted(waiting, "stroke")} waiting`;
    default:
      return "Saving…";
  }
}

/** Who changed what meanwhile, for the person who is drawing; null where nobody else did. */
export function mergedText({ others, rebased, contested }: Merged, me: string): string | null {
  const byPerson = new Map<string, Set<string>>();
  for (const { person, tool } of others) {
    byPerson.set(person, (byPerson.get(person) ?? new Set()).add(tool.replaceAll("_", " ")));
  }
  if (byPerson.size === 0) return null;
  const said = [...byPerson].map(([person, tools]) => {
    const who = person === me ? "You, in another window," : person;
    return `${who} changed the labels meanwhile (${[...tools].join(", ")}).`;
  });
  if (rebased.length > 0) said.push(`Your ${counted(rebased.length, "waiting stroke")} went on top.`);
  if (contested > 0) said.push(`They now cover ${counted(contested, "voxel")} of theirs: look there once more.`);
  return said.join(" ");
}
