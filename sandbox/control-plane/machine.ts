/** Where a program runs, in Go's words. */
export interface Machine {
  /** `linux`, `darwin` */
  readonly os: string;
  /** `amd64`, `arm64`, `ppc64le`, `s390x` */
  readonly arch: string;
}

export function thisMachine(): Machine {
  return { os: process.platform, arch: GO_ARCH[process.arch] ?? process.arch };
}

/** Node's ppc64 is the little-endian one on Linux, the only kind that it is built for there. */
const GO_ARCH: Readonly<Record<string, string>> = { x64: 'amd64', ppc64: 'ppc64le', ia32: '386' };
