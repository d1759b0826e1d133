import { parse } from 'yaml';
import { z } from 'zod';

import { valueEntries } from './values-table.ts';

/** The texts of the files. */
export interface ChartFiles {
  readonly values: string;
  readonly schema: string;
  readonly chart: string;
  readonly packageJson: string;
}

/** Helm's own: not ours to document. */
const HELMS = 'global';

/** What is wrong with the chart, one line each: values without a comment, values and schema that differ, versions that differ. */
export function checkChart(files: ChartFiles): string[] {
  const problems: string[] = [];
  const schema: unknown = JSON.parse(files.schema);
  const documented = new Set(valueEntries(files.values).map((entry) => entry.path));
  const nodes = [...schemaNodes(schema, documented)];
  const known = new Set(nodes.filter(({ isGroup }) => !isGroup).map(({ path }) => path));
  for (const path of documented) if (!known.has(path)) problems.push(`values.schema.json lacks ${path}`);
  for (const path of known) if (!documented.has(path)) problems.push(`values.yaml lacks ${path}`);
  for (const { path, isRequired } of nodes)
    if (!isRequired) problems.push(`values.schema.json: ${path} is not required, so null would take its default away`);
  problems.push(...openObjects(schema, ''));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it is refused by zod where it is none
  const defaults = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]).safeParse(parse(files.values));
  for (const issue of defaults.error?.issues ?? [])
    problems.push(`values.yaml: ${issue.path.join('.')}: ${issue.message}`);
  const { version, appVersion } = VERSIONS.parse(parse(files.chart));
  const released = PACKAGE.parse(JSON.parse(files.packageJson)).version;
  for (const [what, found] of Object.entries({ version, appVersion }))
    if (found !== released) problems.push(`Chart.yaml: ${what} is ${found}, and package.json says ${released}`);
  return problems;
}

const VERSIONS = z.object({ version: z.string(), appVersion: z.string() });
const PACKAGE = z.object({ version: z.string() });

interface SchemaNode {
  path: string;
  /** It has documented values of its own. */
  isGroup: boolean;
  /** Helm leaves a key out that is set to null: that must not pass. */
  isRequired: boolean;
}

/** What the schema knows, as far down as values are documented. */
function* schemaNodes(schema: unknown, documented: ReadonlySet<string>, prefix = ''): Generator<SchemaNode> {
  const required = field(schema, 'required');
  for (const [key, child] of Object.entries(propertiesOf(schema))) {
    const path = prefix + key;
    if (path === HELMS) continue;
    const isGroup = [...documented].some((other) => other.startsWith(`${path}.`));
    yield { path, isGroup, isRequired: Array.isArray(required) && required.includes(key) };
    if (isGroup) yield* schemaNodes(child, documented, `${path}.`);
  }
}

/** An object with properties that takes others as well would let a typo pass. */
function* openObjects(schema: unknown, path: string): Generator<string> {
  const properties = propertiesOf(schema);
  if (Object.keys(properties).length > 0 && field(schema, 'additionalProperties') !== false)
    yield `values.schema.json: ${path || 'the top'} takes properties that it does not know`;
  for (const [key, child] of Object.entries(properties))
    yield* openObjects(child, path === '' ? key : `${path}.${key}`);
  const items = field(schema, 'items');
  if (items !== undefined) yield* openObjects(items, `${path}[]`);
}

function propertiesOf(schema: unknown): Record<string, unknown> {
  const properties = field(schema, 'properties');
  return typeof properties === 'object' && properties !== null ? { ...properties } : {};
}

function field(value: unknown, key: string): unknown {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- any object can be asked for a key
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}
