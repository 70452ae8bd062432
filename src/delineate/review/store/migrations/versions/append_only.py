"""The database itself refuses to change or remove edits, decisions and events.

Who owns the database can take that away again; it is there for mistakes. What was changed shows in the audit trail.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = ("edits", "decisions", "events")

_FUNCTION = """
CREATE FUNCTION delineate_append_only() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END;
$$ LANGUAGE plpgsql
"""


def upgrade() -> None:
    """Make the triggers."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        for table in TABLES:
            when = f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}"
            op.execute(f"{when} FOR EACH ROW EXECUTE FUNCTION delineate_append_only()")
        return
    for table in TABLES:
        for act in ("UPDATE", "DELETE"):
            refuse = f"SELECT RAISE(ABORT, '{table} is append-only')"
            op.execute(f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} BEGIN {refuse}; END")
