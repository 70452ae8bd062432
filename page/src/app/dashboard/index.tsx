import type { ComponentChildren } from "preact";

import { dashboard, type Dashboard } from "../../api";
import { useLoaded } from "../load";
import { Empty, Problem } from "../parts";
import { worklistAddress } from "../route";
import { count, counted, decimal, duration, percent } from "../words";
import { dice, GroupTable, PairTable, spreadText } from "./GroupTable";

export function DashboardPage() {
  const { value, problem, loading, reload } = useLoaded(() => dashboard());
  return (
    <main class="page stack" id="main">
      <h1>Dashboard</h1>
      {problem && <Problem problem={problem} retry={reload} />}
      {!value && loading && <p role="status">Comparing readers…</p>}
      {value && (value.total.cases === 0 ? <Nothing /> : <Figures value={value} />)}
    </main>
  );
}

function Nothing() {
  return (
    <Empty title="No case has been decided yet">
      <p>
        How often results are accepted, how long a case takes and how far readers agree shows here once cases are
        approved or rejected. <a href={worklistAddress()}>To the worklist</a>
      </p>
    </Empty>
  );
}

function Figures({ value }: { value: Dashboard }) {
  const { total } = value;
  return (
    <>
      <dl class="tiles">
        <Tile name="Cases decided" figure={count(total.cases)}>
          {count(total.rejected)} rejected, {count(total.escalated)} escalated
        </Tile>
        <Tile name="Accepted unedited" figure={percent(total.unedited.value)}>
          {total.unedited.lower === null
            ? "–"
            : `${decimal(100 * total.unedited.lower, 0)}–${percent(total.unedited.upper)} with 95 % confidence`}
        </Tile>
        <Tile name="Time a case" figure={duration(total.seconds.median)}>
          {total.seconds.count < 2
            ? "median"
            : `half of them ${duration(total.seconds.lower)} to ${duration(total.seconds.upper)}`}
        </Tile>
        <Tile name="Dice, model and accepted" figure={dice(total.dice.median)}>
          {spreadText(total.dice, dice)}
        </Tile>
        <Tile name="Dice between readers" figure={dice(total.between.median)}>
          {total.between.count === 0
            ? "no case was read twice"
            : `${counted(total.between.count, "case")} read by two people`}
        </Tile>
      </dl>
      {value.pending > 0 && (
        <p class="notice">
          {counted(value.pending, "case has", "cases have")} not been compared voxel by voxel yet; the Dice figures leave
          them out until then.
        </p>
      )}
      <p class="muted">
        Numbers are medians, with quartiles in brackets; shares have 95 % intervals (Wilson). A bar shows the number, the
        line on it the range.
      </p>
      <GroupTable title="Models" one="Model" groups={value.models} />
      <GroupTable title="Sites" one="Site" groups={value.sites} />
      <GroupTable title="Structures" one="Structure" groups={value.structures} timed={false} />
      <GroupTable title="Readers" one="Reader" groups={value.readers} />
      <PairTable pairs={value.pairs} />
    </>
  );
}

function Tile({ name, figure, children }: { name: string; figure: string; children: ComponentChildren }) {
  return (
    <div class="panel tile">
      <dt>{name}</dt>
      <dd>
        <strong>{figure}</strong>
        <span class="muted">{children}</span>
      </dd>
    </div>
  );
}
