import type { Clock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict, isNotFound } from '#shared/kubernetes/errors.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { isNewer } from '#shared/kubernetes/reflector.ts';
import { ANNOTATION, LABEL } from '#shared/names.ts';
import { platformLabel } from '#shared/platform.ts';

import { markPatch, unmarkPatch } from './patch.ts';
import { platformOf, type Run } from './run.ts';
import { failedHostsOf, viewOf } from './view.ts';

/** The label of a TaskRun whose platform is nothing that a label can hold. */
const MALFORMED = 'malformed';

/** What of a TaskRun's state is written on it; what is not named is taken off. */
export interface WrittenState {
  readonly waiting?: boolean;
  readonly host?: string;
  readonly error?: string;
}

/** Writes on TaskRuns. Each write goes through only on the version that it was decided on. */
export class TaskRunWriter {
  readonly #client: Pick<KubeClient, 'get' | 'patch'>;
  readonly #clock: Clock;

  constructor(options: { client: Pick<KubeClient, 'get' | 'patch'>; clock: Clock }) {
    this.#client = options.client;
    this.#clock = options.clock;
  }

  /** Puts the finalizer on, and the state that the TaskRun is in. False where it changed meanwhile: it is to be decided again. */
  async mark(run: Run, state: WrittenState): Promise<boolean> {
    const { view } = run;
    // Without the label the watch would not see how it goes on.
    const target = platformLabel(platformOf(view)) || MALFORMED;
    // What a user wrote before we ever did is not to be believed.
    const failedBefore = view.hasFinalizer ? failedHostsOf(view) : [];
    const failed = [...new Set([...failedBefore, ...run.failures.keys()])];
    const patch = markPatch(view, {
      labels: {
        [LABEL.targetPlatform]: target,
        [LABEL.waitingForPlatform]: state.waiting === true ? target : undefined,
        [LABEL.assignedHost]: state.host,
      },
      annotations: {
        [ANNOTATION.allocationStartTime]: unixSeconds(run.searchStartMs),
        [ANNOTATION.buildStartTime]:
          state.host === undefined ? undefined : unixSeconds(run.slotAtMs ?? this.#clock.now()),
        [ANNOTATION.failedHosts]: failed.length === 0 ? undefined : failed.join(','),
        [ANNOTATION.error]: state.error,
        [ANNOTATION.foreignSecret]: run.secret === 'foreign' ? 'true' : undefined,
      },
    });
    return await this.#patch(run, patch);
  }

  /** Takes finalizer and labels off. False as for {@link TaskRunWriter.mark}. */
  async unmark(run: Run): Promise<boolean> {
    return await this.#patch(run, unmarkPatch(run.view));
  }

  /** Reads the TaskRun anew. */
  async refresh(run: Run): Promise<void> {
    const { namespace, name, uid } = run.view;
    const found = await ignoreNotFound(this.#client.get(PATH.taskRuns(namespace, name)));
    run.lost = false;
    if (found === null || found.metadata.uid !== uid) {
      run.gone = true;
      return;
    }
    const view = viewOf(found);
    if (isNewer(view.resourceVersion, run.view.resourceVersion)) run.view = view;
  }

  async #patch(run: Run, patch: object | null): Promise<boolean> {
    if (patch === null) return true;
    const { namespace, name, uid } = run.view;
    try {
      const view = viewOf(await this.#client.patch(PATH.taskRuns(namespace, name), patch));
      if (view.uid === uid && isNewer(view.resourceVersion, run.view.resourceVersion)) run.view = view;
      return true;
    } catch (error) {
      if (isConflict(error)) {
        await this.refresh(run);
        return false;
      }
      if (isNotFound(error)) {
        run.gone = true;
        return false;
      }
      throw error;
    }
  }
}

function unixSeconds(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : String(Math.floor(ms / 1000));
}
