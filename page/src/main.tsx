import { render } from "preact";

import { App } from "./app/App";
import { applyTheme, chosenTheme } from "./app/theme";
import { watchTouches } from "./idle";
import "./styles/theme.css";
import "./styles/app.css";

applyTheme(chosenTheme());
watchTouches();
const host = document.getElementById("page");
if (host) render(<App />, host);
