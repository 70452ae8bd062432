import { useEffect, useState } from "preact/hooks";

import { routeOf } from "./route";

export function App() {
  const [route, setRoute] = useState(routeOf(location.hash));
  useEffect(() => {
    const follow = () => setRoute(routeOf(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return <main>{route.page}</main>;
}
