import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// `npm run dev` serves the source beside a running `glasshouse serve`; changing requests need the built page's token.
export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "../glasshouse/web/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8421" } },
});
