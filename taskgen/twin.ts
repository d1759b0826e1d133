import { type YAMLMap, type YAMLSeq, isSeq, stringify } from 'yaml';
import { PLATFORM_PARAM, SECRET_PREFIX } from '#shared/names.ts';
import { APPEND_PARAM } from './images.ts';
import { type Plan, planTwin } from './plan.ts';
import { remoteScript } from './remote-script.ts';
import type { ScriptParts } from './script-parts.ts';
import { type Task, parseTask } from './task.ts';
import { type YamlEditor, blockMap, createYamlEditor, indented, mapIn, valueOf } from './yaml-editor.ts';

export interface TwinOptions {
  /** Name of the step that runs remotely; undefined for the one that builds. */
  readonly step: string | undefined;
  readonly parts: ScriptParts;
}

/**
 * The remote twin of a Task: YAML to YAML. The same text gives the same text, and what the twin does not differ in stays as it
 * is, byte for byte.
 *
 * @throws TaskgenError with any code but `usage`, `cannot-read` and `cannot-write`
 */
export function remoteTwin(text: string, { step, parts }: TwinOptions): string {
  const source = text.endsWith('\n') ? text : `${text}\n`;
  const { document, task } = parseTask(source);
  const plan = planTwin(task, step);
  const root = blockMap(document.contents, 'the Task');
  const spec = mapIn(root, 'spec');
  const steps = valueOf(spec, 'steps');
  if (!isSeq(steps)) throw new TypeError('a Task without a list of steps was taken for one');
  const stepAt = (position: number): YAMLMap => blockMap(steps.items[position], `steps[${position}]`);
  const editor = createYamlEditor(source, dashColumns(spec, steps));

  editor.replaceScalar(mapIn(root, 'metadata'), 'name', plan.name);
  editSpec(editor, spec, plan);
  for (const where of plan.images.declareIn) {
    const owner = where === 'template' ? mapIn(spec, 'stepTemplate') : stepAt(where);
    editor.addItems(
      owner,
      'env',
      [PLATFORM_PARAM, APPEND_PARAM].map((name) => [`name: ${name}`, `value: $(params.${name})`]),
    );
  }
  for (const { position, names } of plan.images.appendIn) {
    const at = firstLineAfterHead(task.spec.steps[position]?.script ?? '');
    editor.insertLines(stepAt(position), 'script', at, appendingLines(names));
  }
  editRemoteStep(editor, stepAt(plan.position), { plan, task, parts });
  return editor.text();
}

/** How far this file's author puts a list to the right of its key. */
function dashColumns(spec: YAMLMap, steps: YAMLSeq): number {
  const [list, owner] = [steps.srcToken, spec.srcToken].map((token) => (token && 'indent' in token ? token.indent : 0));
  return Math.max(0, (list ?? 0) - (owner ?? 0));
}

function editSpec(editor: YamlEditor, spec: YAMLMap, { images }: Plan): void {
  const append = [
    `name: ${APPEND_PARAM}`,
    'description: Whether the platform is appended to the name of the image, each character but letters and digits as "-"',
    'type: string',
    'default: "false"',
  ];
  editor.addItems(spec, 'params', [
    [`name: ${PLATFORM_PARAM}`, 'description: The platform to build on, such as linux/arm64', 'type: string'],
    ...(images.declareIn.length > 0 ? [append] : []),
  ]);
  editor.addItems(spec, 'volumes', [
    ['name: ssh', 'secret:', `  secretName: ${SECRET_PREFIX}$(context.taskRun.name)`, '  optional: false'],
  ]);
}

function editRemoteStep(
  editor: YamlEditor,
  step: YAMLMap,
  { plan, task, parts }: { plan: Plan; task: Task; parts: ScriptParts },
): void {
  editor.addItems(step, 'env', [
    ['name: BUILDER_IMAGE', `value: ${stringify(plan.image, { lineWidth: 0 }).trimEnd()}`],
  ]);
  editor.addItems(step, 'volumeMounts', [['name: ssh', 'mountPath: /ssh', 'readOnly: true']]);
  const header = remoteScript(plan.remote, parts);
  if (plan.remote.form === 'script') {
    editor.insertLines(step, 'script', 0, header.trimEnd().split('\n'));
    return;
  }
  // Script and command exclude each other: the command becomes the script's arguments.
  const { command, args } = task.spec.steps[plan.position] ?? {};
  const words = ['args:', ...[...(command ?? []), ...(args ?? [])].map((word) => `- ${JSON.stringify(word)}`)];
  editor.replacePair(step, 'command', ['script: |', ...indented(header)]);
  if (args === undefined) editor.addPair(step, words);
  else editor.replacePair(step, 'args', words);
}

/** Behind `#!`, and behind the lines that follow it and do nothing but set options. */
function firstLineAfterHead(script: string): number {
  const [head = ''] = /^#!.*\n(?:[ \t]*(?:set[ \t][-+\w \t]*(?:#.*)?)?\n)*/.exec(script) ?? [];
  return head.split('\n').length - 1;
}

function appendingLines(names: readonly string[]): string[] {
  return [
    `if [ "$${APPEND_PARAM}" = true ]; then`,
    ...names.map((name) => `  ${name}="$${name}-$(printf %s "$${PLATFORM_PARAM}" | tr -c a-zA-Z0-9 -)"`),
    'fi',
  ];
}
