import type { Logger } from '#shared/log.ts';

import type { EventKind, EventRecorder } from '../events.ts';
import { fieldsOf, type Run } from './run.ts';

/** Says what happens to a TaskRun: one line in the log and one Event for each thing that a person would ask about. */
export class Reporter {
  readonly #events: Pick<EventRecorder, 'record'>;
  readonly log: Logger;

  constructor(options: { events: Pick<EventRecorder, 'record'>; log: Logger }) {
    this.#events = options.events;
    this.log = options.log;
  }

  /** `message` goes on after the TaskRun's name. */
  say(run: Run, kind: EventKind, message: string, fields: Readonly<Record<string, string | number>> = {}): void {
    const { namespace, name, uid } = run.view;
    this.log.info({ ...fieldsOf(run), ...fields, event: kind }, `TaskRun ${namespace}/${name} ${message}`);
    const duration = fields.durationMs === undefined ? '' : ` (${fields.durationMs} ms)`;
    this.#events.record(
      kind,
      { apiVersion: 'tekton.dev/v1', kind: 'TaskRun', namespace, name, uid },
      message + duration,
    );
  }
}
