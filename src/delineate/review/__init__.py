"""Review: people see, correct and sign what a model made. A web server, its store, and the page (in `page/`)."""
