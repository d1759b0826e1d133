import { stringify } from 'yaml';
import { TaskgenError } from './errors.ts';
import type { ScriptParts } from './script-parts.ts';
import { remoteTwin } from './twin.ts';

/** In place of the long ones, so that a test can say what it expects. */
export const SHORT_PARTS: ScriptParts = { step: '# step\n', host: '# host\n', container: '# container\n' };

export function twinOf(text: string, step?: string): string {
  return remoteTwin(text, { step, parts: SHORT_PARTS });
}

/** A Task with one step called `build`, which has these fields, and these beside its steps. */
export function taskWith(step: object, spec: object = {}): string {
  const build = { name: 'build', image: 'builder', script: 'make', ...step };
  return stringify({
    apiVersion: 'tekton.dev/v1',
    kind: 'Task',
    metadata: { name: 'example' },
    spec: { ...spec, steps: [build] },
  });
}

/** Why there is no twin: the code, and each reason. */
export function refusalOf(text: string, step?: string): { code: string; reasons: readonly string[] } {
  try {
    twinOf(text, step);
  } catch (error) {
    if (!(error instanceof TaskgenError)) throw error;
    return { code: error.code, reasons: error.reasons.length > 0 ? error.reasons : [error.message] };
  }
  throw new Error('there is a twin');
}
