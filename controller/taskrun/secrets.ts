import { AppError, messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import {
  ignoreNotFound,
  isAlreadyExists,
  isConflict,
  isForbidden,
  isInvalid,
  KubeError,
} from '#shared/kubernetes/errors.ts';
import type { KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { ANNOTATION, secretName } from '#shared/names.ts';

import type { Reporter } from './reporter.ts';
import { fieldsOf, type Prepared, type Run } from './run.ts';
import { buildSecret, type SecretContent } from './secret.ts';
import type { TaskRunView } from './view.ts';

/** Creates and deletes the Secrets of TaskRuns, which it cannot read: rights to create and delete by name are all that it has. */
export class SecretWriter {
  readonly #client: Pick<KubeClient, 'create' | 'patch' | 'delete'>;
  readonly #reporter: Reporter;

  constructor(options: { client: Pick<KubeClient, 'create' | 'patch' | 'delete'>; reporter: Reporter }) {
    this.#client = options.client;
    this.#reporter = options.reporter;
  }

  /**
   * Creates the Secret, and has the kubelet look again. Where one of its name is there that is not ours, that is left alone for good
   * (`run.secret` is `foreign`); the same where none can be made, since the name of the TaskRun is too long. What was prepared is kept
   * until the API server has answered: the account has its key.
   */
  async publish(run: Run, content: () => Promise<SecretContent> | SecretContent): Promise<boolean> {
    run.prepared ??= prepare(run.view, await content());
    const { prepared, view } = run;
    try {
      const created = await this.#client.create<Secret>(PATH.secrets(view.namespace), prepared.secret);
      run.secretUid = created.metadata.uid;
      run.secret = 'present';
    } catch (error) {
      // No answer: it may have been created all the same.
      if (!(error instanceof KubeError) || error.status >= 500) prepared.mayBeThere = true;
      if (isInvalid(error)) {
        run.prepared = undefined;
        run.secret = 'foreign';
        this.#reporter.say(run, 'secretRefused', `gets no host: its Secret cannot be made: ${messageOf(error)}`);
        return false;
      }
      // A quota, say: it can be raised, or others make room.
      if (isForbidden(error) && !prepared.isKnownForbidden) {
        prepared.isKnownForbidden = true;
        const message = `waits for its Secret, which may not be made now and is tried again: ${messageOf(error)}`;
        this.#reporter.say(run, 'secretRefused', message);
      }
      // 409 with another reason is no answer to what was asked: quotas are counted with optimistic locks.
      if (!isAlreadyExists(error)) throw error;
      if (prepared.mayBeThere) await this.look(run);
      else run.secret = 'foreign';
    }
    // Somebody has deleted it since.
    if (run.secret === 'absent') throw new AppError('taskrun.secret-gone', 'its Secret was there, and is gone again');
    run.prepared = undefined;
    if (run.secret === 'present') {
      await this.#nudgePod(run);
      return true;
    }
    const name = secretName(view.name);
    this.#reporter.say(
      run,
      'foreignSecret',
      `gets no host: the Secret ${name} was there already and is not ours. Delete it, then run the build again`,
    );
    return false;
  }

  /** Finds out whether a Secret of the name is there, and which: it cannot be read, but a delete that is only tried tells. */
  async look(run: Run): Promise<void> {
    const { namespace, name } = run.view;
    const path = PATH.secrets(namespace, secretName(name));
    const found = await ignoreNotFound(this.#client.delete(path, undefined, { dryRun: true }));
    run.secret = found === null ? 'absent' : 'present';
    run.secretUid = found?.details?.uid;
  }

  /** Deletes the Secret, if there may be one of ours. */
  async delete(run: Run): Promise<void> {
    const { namespace, name } = run.view;
    // By its name alone it could be that of a new TaskRun; Kubernetes takes ours away, since its owner is gone.
    const isOwnersOnly = run.gone && run.secretUid === undefined;
    const mayBeThere = run.secret === 'present' || run.secret === 'unknown' || run.prepared?.mayBeThere === true;
    if (mayBeThere && !isOwnersOnly) {
      const preconditions = run.secretUid === undefined ? undefined : { uid: run.secretUid };
      try {
        await ignoreNotFound(this.#client.delete(PATH.secrets(namespace, secretName(name)), preconditions));
      } catch (error) {
        // Another one has taken its place; ours is gone.
        if (preconditions === undefined || !isConflict(error)) throw error;
      }
    }
    run.secret = 'absent';
    run.secretUid = undefined;
    run.prepared = undefined;
  }

  /** The kubelet would find the Secret anyway, up to two minutes later. */
  async #nudgePod(run: Run): Promise<void> {
    const { podName, namespace } = run.view;
    if (podName === undefined) return;
    const patch = { metadata: { annotations: { [ANNOTATION.secretReady]: 'true' } } };
    try {
      await ignoreNotFound(this.#client.patch<KubeObject>(PATH.pods(namespace, podName), patch));
    } catch (error) {
      const fields = { ...fieldsOf(run), err: error };
      this.#reporter.log.warn(fields, `the Pod ${podName} could not be told of its Secret: ${messageOf(error)}`);
    }
  }
}

function prepare(view: TaskRunView, content: SecretContent): Prepared {
  return {
    secret: buildSecret(view, content),
    content: content.kind === 'error' ? content : { kind: content.kind },
    mayBeThere: false,
    isKnownForbidden: false,
  };
}
