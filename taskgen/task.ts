import { type Document, isScalar, parseAllDocuments, visit } from 'yaml';
import { z } from 'zod';
import { messageOf } from '#shared/errors.ts';
import { PLATFORM_PARAM, SECRET_PREFIX } from '#shared/names.ts';
import { TASKGEN_ERROR, TaskgenError } from './errors.ts';

/** The parts of Tekton's v1 API that matter here (tekton.dev/docs/pipelines/pipeline-api); all others stay as they are. */

const EnvVar = z.looseObject({ name: z.string(), value: z.string().optional() });

const VolumeMount = z.looseObject({
  name: z.string(),
  mountPath: z.string(),
  subPath: z.string().optional(),
  readOnly: z.boolean().optional(),
});

const SecurityContext = z.looseObject({
  capabilities: z.looseObject({ add: z.array(z.string()).nullish(), drop: z.array(z.string()).nullish() }).nullish(),
});

const StepTemplate = z.looseObject({
  image: z.string().optional(),
  command: z.array(z.string()).nullish(),
  args: z.array(z.string()).nullish(),
  env: z.array(EnvVar).nullish(),
  workingDir: z.string().optional(),
  volumeMounts: z.array(VolumeMount).nullish(),
  securityContext: SecurityContext.nullish(),
  computeResources: z
    .looseObject({
      limits: z.record(z.string(), z.unknown()).nullish(),
      requests: z.record(z.string(), z.unknown()).nullish(),
    })
    .nullish(),
});

const Step = StepTemplate.extend({ name: z.string().optional(), script: z.string().optional() });

const Task = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
  spec: z.looseObject({
    params: z.array(z.looseObject({ name: z.string() })).nullish(),
    stepTemplate: StepTemplate.nullish(),
    steps: z.array(Step),
    sidecars: z.array(z.looseObject({ name: z.string() })).nullish(),
    volumes: z.array(z.looseObject({ name: z.string() })).nullish(),
    workspaces: z
      .array(z.looseObject({ name: z.string(), mountPath: z.string().optional(), readOnly: z.boolean().optional() }))
      .nullish(),
  }),
});

const Kind = z.looseObject({ apiVersion: z.string().optional(), kind: z.string().optional() });

export type EnvVar = z.infer<typeof EnvVar>;
export type VolumeMount = z.infer<typeof VolumeMount>;
export type SecurityContext = z.infer<typeof SecurityContext>;
export type StepTemplate = z.infer<typeof StepTemplate>;
export type Step = z.infer<typeof Step>;
export type Task = z.infer<typeof Task>;

/** As Tekton asks: an empty script is none. */
export function hasScript({ script = '' }: Step): boolean {
  return script !== '';
}

export interface ParsedTask {
  readonly document: Document.Parsed;
  readonly task: Task;
}

/** @throws TaskgenError `malformed`, `not-a-task`, `already-remote`, `refused` */
export function parseTask(text: string): ParsedTask {
  const document = parseOne(text);
  const value = valueOf(document);
  checkKind(value);
  checkMergesNothing(document);
  const parsed = Task.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new TaskgenError(
      TASKGEN_ERROR.notATask,
      `not a well-formed Task: ${issue?.path.join('.')}: ${issue?.message}`,
    );
  }
  checkIsNotRemote(parsed.data);
  return { document, task: parsed.data };
}

function parseOne(text: string): Document.Parsed {
  const documents = parseAllDocuments(text, { keepSourceTokens: true });
  const [error] = documents.flatMap(({ errors }) => errors);
  if (error !== undefined) {
    throw new TaskgenError(TASKGEN_ERROR.malformed, `malformed YAML: ${error.message.split(/:?\n/, 1)[0]}`, {
      cause: error,
    });
  }
  // Where many are put into one file a "---" may stand behind the last one, too.
  const [document, ...others] = documents.filter(({ contents }) => !isScalar(contents) || contents.value !== null);
  if (document === undefined) {
    throw new TaskgenError(TASKGEN_ERROR.malformed, 'there is no YAML document in it');
  }
  if (others.length > 0) {
    throw new TaskgenError(
      TASKGEN_ERROR.malformed,
      `there are ${others.length + 1} YAML documents in it: give the Task a file of its own`,
    );
  }
  return document;
}

function valueOf(document: Document.Parsed): unknown {
  try {
    return document.toJS();
  } catch (cause) {
    // An alias of nothing, or aliases of aliases of aliases.
    throw new TaskgenError(TASKGEN_ERROR.malformed, `malformed YAML: ${messageOf(cause)}`, { cause });
  }
}

function checkKind(value: unknown): void {
  const { apiVersion, kind } = Kind.safeParse(value).data ?? {};
  if (kind === 'Task' && apiVersion === 'tekton.dev/v1') return;
  if (kind === 'Task' && apiVersion === 'tekton.dev/v1beta1') {
    throw new TaskgenError(TASKGEN_ERROR.notATask, 'a Task of tekton.dev/v1beta1: convert it to tekton.dev/v1 first');
  }
  const what = kind === undefined ? 'YAML without a kind' : `a ${kind} of ${apiVersion ?? 'no API'}`;
  throw new TaskgenError(TASKGEN_ERROR.notATask, `${what}, not a Task of tekton.dev/v1`);
}

/** Kubernetes reads `<<` as YAML 1.1 does: what it brings in would be neither carried over nor added to. */
function checkMergesNothing(document: Document.Parsed): void {
  visit(document, {
    Pair: (_, { key }) => {
      if (!isScalar(key) || key.source !== '<<') return;
      throw new TaskgenError(
        TASKGEN_ERROR.refused,
        'the Task has a merge key "<<": please write out what it brings in',
      );
    },
  });
}

function checkIsNotRemote({ metadata, spec }: Task): void {
  const hasSecret = spec.volumes?.some((volume) => JSON.stringify(volume).includes(SECRET_PREFIX));
  const hasParam = spec.params?.some(({ name }) => name === PLATFORM_PARAM);
  if (hasSecret !== true && hasParam !== true) return;
  const sign = hasSecret === true ? `a volume from a Secret ${SECRET_PREFIX}…` : `a param ${PLATFORM_PARAM}`;
  throw new TaskgenError(TASKGEN_ERROR.alreadyRemote, `Task ${metadata.name} is a remote one already: it has ${sign}`);
}
