import type { CaseRow } from "../../api";
import { StateChip, Swatch, TableRegion } from "../parts";
import { caseAddress } from "../route";
import { day, decimal, duration, personName, structureName, volume, withPlainNames } from "../words";
import { orderedBy, sortOf } from "./query";

const COLUMNS: readonly (readonly [order: string, title: string, numeric?: boolean])[] = [
  ["priority", "Priority", true],
  ["pseudonym", "Patient"],
  ["", "Why look"],
  ["", "Structures"],
  ["state", "State"],
  ["reader", "Reader"],
  ["model", "Model"],
  ["site", "Site"],
  ["date", "Date"],
  ["seconds", "Time", true],
];

interface TableProps {
  rows: readonly CaseRow[];
  order: string;
  onOrder(order: string): void;
}

export function Table({ rows, order, onOrder }: TableProps) {
  return (
    <TableRegion label="Cases">
      <table class="table worklist">
        <caption class="visually-hidden">Cases, one a row. Keys j and k go down and up, Enter opens a case.</caption>
        <thead>
          <tr>
            {COLUMNS.map(([column, title, numeric]) => (
              <Heading key={title} {...{ column, title, order, onOrder }} numeric={numeric ?? false} />
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Row key={row.key} row={row} />
          ))}
        </tbody>
      </table>
    </TableRegion>
  );
}

interface HeadingProps extends Pick<TableProps, "order" | "onOrder"> {
  column: string;
  title: string;
  numeric: boolean;
}

function Heading({ column, title, numeric, order, onOrder }: HeadingProps) {
  const style = numeric ? "number" : "";
  if (column === "") {
    return (
      <th scope="col" class={style}>
        {title}
      </th>
    );
  }
  const sort = sortOf(order, column);
  return (
    <th scope="col" class={style} aria-sort={sort}>
      <button type="button" class="sort" onClick={() => onOrder(orderedBy(order, column))}>
        {title}
        <span aria-hidden="true">{{ ascending: " ▲", descending: " ▼", none: "" }[sort]}</span>
      </button>
    </th>
  );
}

function Row({ row }: { row: CaseRow }) {
  return (
    <tr>
      <td class="number">{decimal(row.priority, 1)}</td>
      <th scope="row" class="key">
        <a class="case-link" href={caseAddress(row.key)}>
          {row.pseudonym || row.key}
        </a>
        {row.patientName && <div>{personName(row.patientName)}</div>}
        {row.pseudonym !== row.key && row.pseudonym !== "" && <div class="muted">{row.key}</div>}
      </th>
      <td>
        <Reasons row={row} />
      </td>
      <td>
        <Structures row={row} />
      </td>
      <td>
        <StateChip state={row.state} />
      </td>
      <td>
        {row.reader ?? <span class="muted">nobody</span>}
        {row.secondReader && <div class="muted">second: {row.secondReader}</div>}
      </td>
      <td>{row.model}</td>
      <td>
        {row.site}
        {row.scanner && <div class="muted">{row.scanner}</div>}
      </td>
      <td class="nowrap">{day(row.date)}</td>
      <td class="number nowrap">{row.seconds > 0 ? duration(row.seconds) : "–"}</td>
    </tr>
  );
}

/** Warnings as chips; the other reasons for a case's place in the list as plain text. */
function Reasons({ row }: { row: CaseRow }) {
  const others = row.reasons.filter((reason) => !row.warnings.includes(reason));
  if (row.warnings.length + others.length === 0) return <span class="muted">nothing in particular</span>;
  return (
    <ul class="reasons">
      {row.warnings.map((warning) => (
        <li key={warning}>
          <span class="chip warn wrap">
            <span aria-hidden="true">⚠</span>
            <span class="visually-hidden">Warning: </span>
            {withPlainNames(warning, row.structures)}
          </span>
        </li>
      ))}
      {others.map((reason) => (
        <li key={reason}>{withPlainNames(reason, row.structures)}</li>
      ))}
    </ul>
  );
}

const SHOWN = 4;

function Structures({ row }: { row: CaseRow }) {
  const hidden = row.structures.length - SHOWN;
  return (
    <ul class="structures">
      {row.structures.slice(0, SHOWN).map((structure) => (
        <li key={structure.value}>
          <Swatch colour={structure.colour} /> {structureName(structure.name)}{" "}
          <span class="muted">{volume(structure.volumeMl)}</span>
        </li>
      ))}
      {hidden > 0 && <li class="muted">and {hidden} more</li>}
    </ul>
  );
}
