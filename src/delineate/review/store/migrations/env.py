"""Where alembic finds the connection and the tables; run by `open_store`, and by hand to compare them."""

from alembic import context

from delineate.review.store.schema import TABLES

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=TABLES,
    compare_type=True,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
context.run_migrations()
