import * as api from "../api";
import { memoryJournal, openJournal } from "../editing/journal";
import { createCaseView } from "../viewer";
import { caseSource } from "./caseSource";
import { CaseDesk } from "./desk";

/** Opens a case in an element of the page. Rejects with an ApiError where the server does not give it. */
export async function openDesk(key: string, host: HTMLElement): Promise<CaseDesk> {
  const [{ person, local }, detail] = await Promise.all([api.session(), api.caseDetail(key)]);
  const journal = await openJournal(person.name, key).catch(memoryJournal);
  const view = await createCaseView(host, caseSource(detail)).catch((problem: unknown) => {
    journal.close();
    throw problem;
  });
  const desk = new CaseDesk(view, person, local, { detail, journal, host });
  const { style } = desk.store.get();
  view.setStyle(style);
  return desk;
}
