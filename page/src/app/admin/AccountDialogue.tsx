import { useState } from "preact/hooks";

import { addPerson, changePerson, type Account, type ApiError, type Role } from "../../api";
import { asApiError } from "../load";
import { Dialogue, Problem, Select } from "../parts";
import { roleName } from "../words";
import { BLANK, changeOf, formOf, newAccount, SHORTEST_PASSWORD, wrongWith, type AccountForm } from "./account";

const ROLES: readonly Role[] = ["viewer", "reviewer", "admin"];

interface Props {
  /** Null for somebody new. */
  account: Account | null;
  known: readonly string[];
  onDone(): void;
  onClose(): void;
}

export function AccountDialogue({ account, known, onDone, onClose }: Props) {
  const [form, setForm] = useState<AccountForm>(account ? formOf(account) : BLANK);
  const [wrong, setWrong] = useState<string | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const put = (change: Partial<AccountForm>) => setForm((before) => ({ ...before, ...change }));
  const save = async (event: Event) => {
    event.preventDefault();
    const found = wrongWith(form, known, account === null);
    setWrong(found);
    setProblem(null);
    if (found !== null) return;
    try {
      if (account) await changePerson(account.name, changeOf(account, form));
      else await addPerson(newAccount(form));
      onDone();
    } catch (caught) {
      setProblem(asApiError(caught));
    }
  };
  return (
    <Dialogue title={account ? `Change ${account.name}` : "Add a person"} onClose={onClose}>
      <form class="stack" onSubmit={save} noValidate>
        {problem && <Problem problem={problem} />}
        {wrong && (
          <p class="notice bad" role="alert">
            {wrong}
          </p>
        )}
        {!account && <TextField label="Name to sign in with" value={form.name} onText={(name) => put({ name })} />}
        <TextField label="Full name, as it signs" value={form.fullName} onText={(fullName) => put({ fullName })} />
        <Select
          label="Role"
          value={form.role}
          options={ROLES.map((role) => [role, roleName(role)] as const)}
          onChange={(role) => put({ role: role as Role })}
        />
        <Rights form={form} put={put} isNew={account === null} />
        <TextField
          label={account ? "New password (empty: as it is)" : `Password (at least ${SHORTEST_PASSWORD} characters)`}
          secret
          value={form.password}
          onText={(password) => put({ password })}
        />
        <div class="row">
          <button type="submit" class="button primary">
            {account ? "Save" : "Add"}
          </button>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialogue>
  );
}

interface RightsProps {
  form: AccountForm;
  put(change: Partial<AccountForm>): void;
  isNew: boolean;
}

function Rights({ form, put, isNew }: RightsProps) {
  return (
    <>
      <Tick label="Sees names of patients" value={form.seesNames} onValue={(seesNames) => put({ seesNames })} />
      {!isNew && <Tick label="May sign in" value={form.active} onValue={(active) => put({ active })} />}
      <label class="field">
        <span>Collections whose cases they see, one a line (empty: all; administrators see all)</span>
        <textarea
          class="input"
          rows={3}
          value={form.collections}
          onInput={(event) => put({ collections: event.currentTarget.value })}
        />
      </label>
    </>
  );
}

interface TextProps {
  label: string;
  value: string;
  secret?: boolean;
  onText(text: string): void;
}

function TextField({ label, value, secret = false, onText }: TextProps) {
  const put = (event: { currentTarget: HTMLInputElement }) => onText(event.currentTarget.value);
  return (
    <label class="field">
      <span>{label}</span>
      {secret ? (
        <input class="input" type="password" autocomplete="new-password" value={value} onInput={put} />
      ) : (
        <input class="input" type="text" autocomplete="off" value={value} onInput={put} />
      )}
    </label>
  );
}

function Tick({ label, value, onValue }: { label: string; value: boolean; onValue(value: boolean): void }) {
  return (
    <label class="row">
      <input type="checkbox" checked={value} onChange={(event) => onValue(event.currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}
