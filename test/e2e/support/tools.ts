import { ensureTool } from '#sandbox/control-plane/binaries.ts';

/** Path of the program; `npm test` has built it before, with its progress on screen. */
export async function toolPath(name: 'helm' | 'kubectl'): Promise<string> {
  return await ensureTool(name, { env: process.env, progress: { step: () => {}, update: () => {} } });
}
