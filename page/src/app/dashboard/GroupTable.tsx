import type { Dashboard, Group, Spread } from "../../api";
import { TableRegion } from "../parts";
import { count, decimal, duration, percent, structureName } from "../words";
import { ShareBar, SpreadBar } from "./Bar";

interface GroupTableProps {
  title: string;
  /** What a row stands for: "Model". */
  one: string;
  groups: readonly Group[];
  /** Structures have no time of their own. */
  timed?: boolean;
}

export function GroupTable({ title, one, groups, timed = true }: GroupTableProps) {
  const longest = Math.max(...groups.map((group) => group.seconds.upper ?? group.seconds.median ?? 0), 0);
  return (
    <section class="panel stack">
      <h2>{title}</h2>
      {groups.length === 0 ? (
        <p class="muted">Nothing has been decided yet.</p>
      ) : (
        <TableRegion label={title}>
          <table class="table">
            <thead>
              <tr>
                <th scope="col">{one}</th>
                <th scope="col" class="number">
                  Decided
                </th>
                <th scope="col">Accepted unedited</th>
                <th scope="col" class="number">
                  Rejected
                </th>
                {timed && <th scope="col">Time a case</th>}
                <th scope="col">Dice, model and accepted</th>
                <th scope="col">Dice between readers</th>
                <th scope="col">Why rejected</th>
              </tr>
            </thead>
            <tbody>
              {groups.map((group) => (
                <Row
                  key={group.name}
                  name={one === "Structure" ? structureName(group.name) : group.name}
                  group={group}
                  longest={longest}
                  timed={timed}
                />
              ))}
            </tbody>
          </table>
        </TableRegion>
      )}
    </section>
  );
}

interface RowProps {
  name: string;
  group: Group;
  longest: number;
  timed: boolean;
}

function Row({ name, group, longest, timed }: RowProps) {
  return (
    <tr>
      <th scope="row">{name || <span class="muted">unknown</span>}</th>
      <td class="number">{count(group.cases)}</td>
      <td>
        {shareText(group)}
        <ShareBar share={group.unedited} />
      </td>
      <td class="number">{count(group.rejected)}</td>
      {timed && (
        <td>
          {spreadText(group.seconds, duration)}
          <SpreadBar spread={group.seconds} most={longest} />
        </td>
      )}
      <td>
        {spreadText(group.dice, dice)}
        <SpreadBar spread={group.dice} most={1} />
      </td>
      <td>
        {spreadText(group.between, dice)}
        <SpreadBar spread={group.between} most={1} />
      </td>
      <td>{group.reasons.map(({ reason, count: times }) => `${reason} (${times})`).join("; ") || "–"}</td>
    </tr>
  );
}

export function PairTable({ pairs }: { pairs: Dashboard["pairs"] }) {
  if (pairs.length === 0) return null;
  return (
    <section class="panel stack">
      <h2>Pairs of readers</h2>
      <TableRegion label="Pairs of readers">
        <table class="table">
          <thead>
            <tr>
              <th scope="col">First reader</th>
              <th scope="col">Second reader</th>
              <th scope="col" class="number">
                Cases
              </th>
              <th scope="col">Dice between them</th>
            </tr>
          </thead>
          <tbody>
            {pairs.map((pair) => (
              <tr key={`${pair.first}\n${pair.second}`}>
                <td>{pair.first}</td>
                <td>{pair.second}</td>
                <td class="number">{count(pair.cases)}</td>
                <td>
                  {spreadText(pair.dice, dice)}
                  <SpreadBar spread={pair.dice} most={1} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </TableRegion>
    </section>
  );
}

export const dice = (value: number | null): string => decimal(value, 3);

/** "67 % (8 of 12; 39–86 %)". */
export function shareText({ unedited }: Pick<Group, "unedited">): string {
  const { value, lower, upper, count: part, of } = unedited;
  if (value === null || lower === null || upper === null) return "–";
  return `${percent(value)} (${count(part)} of ${count(of)}; ${decimal(100 * lower, 0)}–${percent(upper)})`;
}

/** "0.912 (0.880–0.934)": the median and the quartiles, without them for a single value. */
export function spreadText(spread: Spread, text: (value: number | null) => string): string {
  if (spread.median === null) return "–";
  if (spread.count < 2) return text(spread.median);
  return `${text(spread.median)} (${text(spread.lower)}–${text(spread.upper)})`;
}
