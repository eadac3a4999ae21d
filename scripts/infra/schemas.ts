/** Schemas: JSON schemas of Kubernetes and KEDA as kubeconform reads them: one file a kind, nothing referred to outside of it. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** `kinds`: as in deployment-apps-v1. Returns the directory, which the caller removes. */
export function writeSchemas(kubernetes: string, kedaModule: string, kinds: readonly string[]): string {
  const out = mkdtempSync(join(tmpdir(), 'nibble-schemas-'));
  const { $defs } = read(join(kubernetes, '_definitions.json')) as { $defs: Json };
  for (const kind of kinds) {
    const path = join(kubernetes, `${kind}.json`);
    const schema = local(read(path)) as { [name: string]: Json };
    write(join(out, `${kind}.json`), { ...schema, $defs: local($defs) });
  }
  const bases = join(kedaModule, 'config', 'crd', 'bases');
  for (const file of readdirSync(bases)) {
    const { spec } = parse(readFileSync(join(bases, file), 'utf8'));
    for (const { name, schema } of spec.versions)
      write(join(out, `${spec.names.kind.toLowerCase()}-keda-${name}.json`), schema.openAPIV3Schema);
  }
  return out;
}

/** References into the file of definitions become references into this one. */
function local(json: Json): Json {
  if (Array.isArray(json)) return json.map(local);
  if (json === null || typeof json !== 'object') return json;
  return Object.fromEntries(
    Object.entries(json).flatMap(([name, value]) => {
      if (name === '$id') return [];
      const isReference = name === '$ref' && typeof value === 'string';
      return [[name, isReference ? value.slice(value.indexOf('#')) : local(value)]];
    }),
  );
}

function read(path: string): Json {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function write(path: string, json: Json): void {
  writeFileSync(path, JSON.stringify(json));
}
