import * as api from "../api";
import { counted } from "../app/words";
import { memoryJournal, openJournal } from "../editing/journal";
import { createCaseView } from "../viewer";
import { caseSource } from "./caseSource";
import { CaseDesk } from "./desk";

/** Opens a case in an element of the page. Rejects with an ApiError where the server does not give it. */
export async function openDesk(key: string, host: HTMLElement): Promise<CaseDesk> {
  const [{ person, local }, detail] = await Promise.all([api.session(), api.caseDetail(key)]);
  const journal = await openJournal(person.name, key).catch(memoryJournal);
  const view = await createCaseView(host, caseSource(detail));
  const desk = new CaseDesk(view, person, local, { detail, journal, host });
  const { style } = desk.store.get();
  view.setStyle(style);
  const left = (await journal.saved().catch(() => [])).length;
  if (left > 0) {
    desk.notice(`${counted(left, "stroke")} from an earlier visit were not saved yet; they are being put back.`);
    desk.sender.takeUpSaved().catch((problem: unknown) => desk.notice(String(problem), "bad"));
  }
  return desk;
}
