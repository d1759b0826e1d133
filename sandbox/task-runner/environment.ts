import { expand } from './expand.ts';
import type { Container, Pod } from './pod-types.ts';
import type { EnvVar, KeyRef } from './tekton-types.ts';
import { UnsupportedError } from './unsupported.ts';

const DEFAULTS: ReadonlyMap<string, string> = new Map([
  ['PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
  ['HOME', '/root'],
  ['LANG', 'C.UTF-8'],
]);

/** Gives the value of one key, undefined where the object or the key is missing. */
export type Lookup = (kind: 'secret' | 'configMap', name: string, key: string) => Promise<string | undefined>;

/**
 * The container's variables with every reference in them resolved.
 *
 * @returns what is missing, in place of the variables, where a Secret or ConfigMap that is not optional is not there yet
 */
export async function environmentOf(
  container: Container,
  pod: Pod,
  lookup: Lookup,
): Promise<{ env: ReadonlyMap<string, string> } | { missing: string }> {
  const env = new Map([...DEFAULTS, ['HOSTNAME', pod.metadata.name]]);
  for (const variable of container.env ?? []) {
    const found = await valueOf(variable, pod, lookup, env);
    if (found === undefined) continue;
    if (typeof found !== 'string') return found;
    env.set(variable.name, found);
  }
  return { env };
}

async function valueOf(
  { name, value, valueFrom }: EnvVar,
  pod: Pod,
  lookup: Lookup,
  env: ReadonlyMap<string, string>,
): Promise<string | undefined | { missing: string }> {
  if (valueFrom === undefined) return expand(value ?? '', env);
  if (valueFrom.fieldRef !== undefined) return fieldOf(pod, valueFrom.fieldRef.fieldPath, name);
  const [kind, ref] =
    valueFrom.secretKeyRef === undefined
      ? (['configMap', valueFrom.configMapKeyRef] as const)
      : (['secret', valueFrom.secretKeyRef] as const);
  if (ref === undefined)
    throw new UnsupportedError(`variable ${name} comes from something other than a Secret, a ConfigMap or a field`);
  const found = await lookup(kind, ref.name, ref.key);
  if (found === undefined && ref.optional !== true) return { missing: missingKey(kind, ref) };
  return found;
}

function missingKey(kind: string, { name, key }: KeyRef): string {
  return `couldn't find key ${key} in ${kind} ${name}`;
}

function fieldOf({ metadata }: Pod, fieldPath: string, variable: string): string {
  const fields: Readonly<Record<string, string | undefined>> = {
    'metadata.name': metadata.name,
    'metadata.namespace': metadata.namespace,
    'metadata.uid': metadata.uid,
  };
  const key = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(fieldPath);
  if (key !== null) return metadata[key[1] === 'labels' ? 'labels' : 'annotations']?.[key[2] ?? ''] ?? '';
  const value = fields[fieldPath];
  if (value === undefined) throw new UnsupportedError(`variable ${variable} comes from the field ${fieldPath}`);
  return value;
}
