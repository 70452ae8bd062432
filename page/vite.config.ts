import { defineConfig } from "vite";

// DELINEATE_REVIEW: the server that `npx vite` hands calls of /api on to, while one develops. Open Vite's address with
// the token of the address that the server printed.
const server = process.env["DELINEATE_REVIEW"] ?? "http://127.0.0.1:8765";

export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/delineate/review/static",
    emptyOutDir: true,
    target: "es2022",
    sourcemap: false,
    // No data: URLs for scripts or fonts, which the server's content policy would not let through.
    assetsInlineLimit: 0,
    // NiiVue is a chunk of its own that only the 3D picture asks for.
    chunkSizeWarningLimit: 2500,
  },
  worker: { format: "es" },
  server: { proxy: { "/api": { target: server, changeOrigin: true } } },
});
