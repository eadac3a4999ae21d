/** Docs: the OpenAPI document as a page, without scripts. */

import type { OpenAPIHono } from '@hono/zod-openapi';
import { html, raw } from 'hono/html';
import type { ApiEnv } from './request.ts';

type Document = ReturnType<OpenAPIHono<ApiEnv>['getOpenAPI31Document']>;

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}
code,pre{font-family:ui-monospace,monospace}pre{background:#8881;padding:1rem;overflow:auto}
td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}@media(prefers-color-scheme:dark){:root{color-scheme:dark}}`;

export function docsPage(document: Document, origin: string) {
  const routes = Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, { summary?: string }>).map(([method, { summary }]) => ({
      route: `${method.toUpperCase()} ${path}`,
      summary: summary ?? '',
    })),
  );
  return html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${document.info.title}</title><style>${raw(STYLE)}</style></head>
<body>
<h1>${document.info.title}</h1>
<p>${document.info.description}</p>
<pre>curl ${origin}/v1/chat/completions \\
  -H 'authorization: Bearer YOUR_KEY' -H 'content-type: application/json' \\
  -d '{"messages":[{"role":"user","content":"Hello"}],"max_tokens":50}'</pre>
<table>${routes.map(({ route, summary }) => html`<tr><td><code>${route}</code></td><td>${summary}</td></tr>`)}</table>
<p>Every field and answer: <a href="/openapi.json">openapi.json</a></p>
</body>
</html>`;
}
