import { useState } from "preact/hooks";

import { people, type Account } from "../../api";
import { useLoaded } from "../load";
import { Problem, TableRegion } from "../parts";
import { roleName } from "../words";
import { AccountDialogue } from "./AccountDialogue";

/** `open`: whose dialogue is open, "new" for somebody new. */
type Open = Account | "new" | null;

export function PeoplePage({ local }: { local: boolean }) {
  const { value, problem, loading, reload } = useLoaded(() => people());
  const [open, setOpen] = useState<Open>(null);
  const done = () => {
    setOpen(null);
    reload();
  };
  return (
    <main class="page stack" id="main">
      <div class="row">
        <h1>People</h1>
        <button type="button" class="button primary spread" onClick={() => setOpen("new")}>
          Add a person
        </button>
      </div>
      {local && (
        <p class="notice">
          This server listens on this machine only, and whoever opened its address is an administrator. Accounts count
          when it is started with <kbd>--host</kbd> and <kbd>--tls-cert</kbd>.
        </p>
      )}
      {problem && <Problem problem={problem} retry={reload} />}
      {!value && loading && <p role="status">Loading…</p>}
      {value && <Accounts accounts={value} onChange={setOpen} />}
      {open !== null && (
        <AccountDialogue
          account={open === "new" ? null : open}
          known={(value ?? []).map((account) => account.name)}
          onDone={done}
          onClose={() => setOpen(null)}
        />
      )}
    </main>
  );
}

function Accounts({ accounts, onChange }: { accounts: readonly Account[]; onChange(account: Account): void }) {
  return (
    <TableRegion label="People">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Full name</th>
            <th scope="col">Role</th>
            <th scope="col">Names of patients</th>
            <th scope="col">Collections</th>
            <th scope="col">Signing in</th>
            <th scope="col">
              <span class="visually-hidden">Change</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {accounts.map((account) => (
            <tr key={account.name}>
              <th scope="row">{account.name}</th>
              <td>{account.fullName}</td>
              <td>{roleName(account.role)}</td>
              <td>{account.seesNames ? "shown" : "hidden"}</td>
              <td>{account.role === "admin" || !account.collections ? "all" : account.collections.join(", ")}</td>
              <td>
                {account.active ? <span class="chip good">allowed</span> : <span class="chip bad">not allowed</span>}
              </td>
              <td>
                <button
                  type="button"
                  class="button"
                  aria-label={`Change ${account.name}`}
                  onClick={() => onChange(account)}
                >
                  Change
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableRegion>
  );
}
