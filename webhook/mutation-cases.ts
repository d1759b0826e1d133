/**
 * What marking does, as a table: the pure function, the webhook behind a real API server and the MutatingAdmissionPolicy all answer to
 * it. The expected values are written out, not computed.
 */
export interface MutationCase {
  name: string;
  /** `labels`, `annotations` and `finalizers` as the user sends them. */
  metadata: Readonly<Record<string, unknown>>;
  spec: Readonly<Record<string, unknown>>;
  /** The same fields afterwards; a field that is missing here is missing or empty there. */
  expected: {
    labels?: Readonly<Record<string, string>>;
    annotations?: Readonly<Record<string, string>>;
    finalizers?: readonly string[];
  };
  /** Part of the warning that the user sees, where one is due. */
  warning?: string;
}

const MARK = 'build.appstudio.redhat.com/target-platform';
const FINALIZER = 'appstudio.io/multi-platform-finalizer';
const ARM: MutationCase['expected'] = { labels: { [MARK]: 'linux-arm64' }, finalizers: [FINALIZER] };
const NO_PLATFORM = 'is not a platform';

function withPlatform(value: unknown, ...others: unknown[]): MutationCase['spec'] {
  return { params: [...others, { name: 'PLATFORM', value }], taskRef: { name: 'build' } };
}

function marked(label: string): MutationCase['expected'] {
  return { labels: { [MARK]: label }, finalizers: [FINALIZER] };
}

export const MUTATION_CASES: readonly MutationCase[] = [
  { name: 'bare metadata', metadata: {}, spec: withPlatform('linux/arm64'), expected: ARM },
  {
    name: 'empty labels, annotations and finalizers',
    metadata: { labels: {}, annotations: {}, finalizers: [] },
    spec: withPlatform('linux/arm64'),
    expected: ARM,
  },
  {
    name: 'labels, annotations and finalizers that are null',
    metadata: { labels: null, annotations: null, finalizers: null },
    spec: withPlatform('linux/arm64'),
    expected: ARM,
  },
  {
    name: "somebody else's labels, annotations and finalizers",
    metadata: { labels: { app: 'a' }, annotations: { note: 'n' }, finalizers: ['example.com/other'] },
    spec: withPlatform('linux/s390x'),
    expected: {
      labels: { app: 'a', [MARK]: 'linux-s390x' },
      annotations: { note: 'n' },
      finalizers: ['example.com/other', FINALIZER],
    },
  },
  {
    name: 'PLATFORM among other params',
    metadata: {},
    spec: withPlatform('linux/arm64', { name: 'IMAGE', value: 'i' }, { name: 'ARGS', value: ['PLATFORM'] }),
    expected: ARM,
  },
  {
    name: 'labels that only the controller may write',
    metadata: {
      labels: {
        [MARK]: 'linux-ppc64le',
        'build.appstudio.redhat.com/assigned-host': 'arm-1',
        'build.appstudio.redhat.com/waiting-for-platform': 'linux-arm64',
      },
    },
    spec: withPlatform('linux/arm64'),
    expected: ARM,
  },
  {
    name: 'annotations that only the controller may write',
    metadata: {
      annotations: {
        note: 'n',
        'build.appstudio.redhat.com/failed-hosts': 'arm-1,arm-2',
        'build.appstudio.redhat.com/allocation-start-time': '1',
        'build.appstudio.redhat.com/build-start-time': '2',
      },
    },
    spec: withPlatform('linux/arm64'),
    expected: { ...ARM, annotations: { note: 'n' } },
  },
  {
    name: 'our finalizer is there already',
    metadata: { finalizers: [FINALIZER, 'example.com/other'] },
    spec: withPlatform('linux/arm64'),
    expected: { labels: { [MARK]: 'linux-arm64' }, finalizers: [FINALIZER, 'example.com/other'] },
  },
  {
    name: 'marked already',
    metadata: { labels: { [MARK]: 'linux-arm64' }, finalizers: [FINALIZER] },
    spec: withPlatform('linux/arm64'),
    expected: ARM,
  },
  { name: 'local', metadata: {}, spec: withPlatform('local'), expected: marked('local') },
  { name: 'localhost', metadata: {}, spec: withPlatform('localhost'), expected: marked('localhost') },
  { name: 'linux/x86_64', metadata: {}, spec: withPlatform('linux/x86_64'), expected: marked('linux-x86_64') },
  {
    name: 'a platform of 127 characters is cut to a label value of 63',
    metadata: {},
    spec: withPlatform(`${'a'.repeat(63)}/${'b'.repeat(63)}`),
    expected: marked('a'.repeat(63)),
  },
  {
    name: 'a cut that would end in a dash ends before it',
    metadata: {},
    spec: withPlatform(`${'a'.repeat(30)}/${'b'.repeat(30)}--${'c'.repeat(10)}`),
    expected: marked(`${'a'.repeat(30)}-${'b'.repeat(30)}`),
  },
  {
    name: 'capital letters',
    metadata: { labels: { app: 'a' } },
    spec: withPlatform('Linux/ARM64'),
    expected: { labels: { app: 'a' } },
    warning: NO_PLATFORM,
  },
  { name: 'an empty PLATFORM', metadata: {}, spec: withPlatform(''), expected: {}, warning: NO_PLATFORM },
  { name: 'a lone word', metadata: {}, spec: withPlatform('arm64'), expected: {}, warning: NO_PLATFORM },
  { name: 'three parts', metadata: {}, spec: withPlatform('linux/arm/v7'), expected: {}, warning: NO_PLATFORM },
  {
    name: 'a newline at the end',
    metadata: {},
    spec: withPlatform('linux/arm64\n'),
    expected: {},
    warning: NO_PLATFORM,
  },
  { name: 'a quote and a dollar', metadata: {}, spec: withPlatform(`'"$HOME`), expected: {}, warning: NO_PLATFORM },
  { name: 'letters beyond ASCII', metadata: {}, spec: withPlatform('línux/ärm64'), expected: {}, warning: NO_PLATFORM },
  {
    name: 'a part of 64 characters',
    metadata: {},
    spec: withPlatform(`linux/${'a'.repeat(64)}`),
    expected: {},
    warning: NO_PLATFORM,
  },
  {
    name: 'a PLATFORM of 100,000 characters',
    metadata: {},
    spec: withPlatform('a'.repeat(100_000)),
    expected: {},
    warning: NO_PLATFORM,
  },
  {
    name: 'reserved labels and annotations beside a PLATFORM that is none',
    metadata: {
      labels: { app: 'a', [MARK]: 'linux-arm64', 'build.appstudio.redhat.com/assigned-host': 'arm-1' },
      annotations: { 'build.appstudio.redhat.com/failed-hosts': 'arm-1' },
    },
    spec: withPlatform('all of them'),
    expected: { labels: { app: 'a' } },
    warning: NO_PLATFORM,
  },
  {
    name: 'PLATFORM through a variable in an inline spec',
    metadata: {},
    spec: {
      params: [
        { name: 'arch', value: 'arm64' },
        { name: 'PLATFORM', value: 'linux/$(params.arch)' },
      ],
      taskSpec: { params: [{ name: 'PLATFORM', type: 'string' }], steps: [{ name: 's', image: 'i' }] },
    },
    expected: {},
    warning: 'holds a variable',
  },
  {
    name: 'the first of two PLATFORMs counts',
    metadata: {},
    spec: withPlatform('linux/arm64', { name: 'PLATFORM', value: 'none' }),
    expected: {},
    warning: NO_PLATFORM,
  },
  {
    name: 'PLATFORM only as a default of the inline spec',
    metadata: {},
    spec: { taskSpec: { params: [{ name: 'PLATFORM', default: 'linux/arm64' }], steps: [{ name: 's', image: 'i' }] } },
    expected: {},
  },
  { name: 'an array named PLATFORM', metadata: {}, spec: withPlatform(['linux/arm64']), expected: {} },
  { name: 'an object named PLATFORM', metadata: {}, spec: withPlatform({ os: 'linux' }), expected: {} },
  {
    name: 'a param with another name',
    metadata: {},
    spec: { params: [{ name: 'platform', value: 'linux/arm64' }] },
    expected: {},
  },
  { name: 'no params', metadata: {}, spec: { taskRef: { name: 'build' } }, expected: {} },
  {
    name: 'without PLATFORM nothing is touched',
    metadata: { labels: { 'build.appstudio.redhat.com/assigned-host': 'arm-1' }, finalizers: [FINALIZER] },
    spec: { taskRef: { name: 'build' } },
    expected: { labels: { 'build.appstudio.redhat.com/assigned-host': 'arm-1' }, finalizers: [FINALIZER] },
  },
];
