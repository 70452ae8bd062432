import { useState } from "preact/hooks";

import { suggestions, type ApiError, type Suggestion } from "../../api";
import { asApiError } from "../load";
import { Problem } from "../parts";
import { caseAddress } from "../route";

const COUNT = 10;

/** Which cases would teach the model most, asked for only when somebody opens it: it may take a while. */
export function Suggestions() {
  const [found, setFound] = useState<Suggestion[] | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const ask = () => {
    setProblem(null);
    suggestions(COUNT).then(setFound, (caught: unknown) => setProblem(asApiError(caught)));
  };
  const toggled = (event: Event) => {
    if ((event.currentTarget as HTMLDetailsElement).open && found === null) ask();
  };
  return (
    <details class="panel" onToggle={toggled}>
      <summary>Suggested for annotation</summary>
      <div class="stack suggestions">
        <p class="muted">Cases that would teach the model most: where it is least sure, and unlike each other.</p>
        {problem && <Problem problem={problem} retry={ask} />}
        {!problem && found === null && <p role="status">Looking…</p>}
        {found?.length === 0 && <p>Nothing is left to suggest: every case has been decided.</p>}
        {found && found.length > 0 && (
          <ol>
            {found.map((each) => (
              <li key={each.key}>
                <a href={caseAddress(each.key)}>{each.key}</a>: {each.reason}
              </li>
            ))}
          </ol>
        )}
      </div>
    </details>
  );
}
