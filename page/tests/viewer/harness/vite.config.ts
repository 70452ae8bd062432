import { defineConfig } from "vite";

// A page that shows synthetic cases in the real viewer, for tests in a browser: vite build -c THIS --outDir FOLDER
export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  publicDir: false,
  build: { target: "es2022", assetsInlineLimit: 0, emptyOutDir: true, chunkSizeWarningLimit: 2500 },
});
