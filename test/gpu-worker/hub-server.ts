/** HubServer: a server that speaks as much of the Hugging Face Hub's API as models and datasets need: info, tree, files by range, upload by commit and LFS. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const TOKEN = 'hf_test';

export class HubServer {
  readonly token = TOKEN;
  /** What is there: repository id → file → bytes. */
  readonly models = new Map<string, Map<string, Buffer>>();
  /** The same of datasets. */
  readonly datasets = new Map<string, Map<string, Buffer>>();
  /** LFS objects by SHA-256. */
  readonly #objects = new Map<string, Buffer>();
  /** Every request, as `METHOD path range`. */
  readonly requests: string[] = [];
  /** The connection breaks after so many bytes of a file, once each. */
  readonly breaks: number[] = [];
  /** Files are refused with these statuses first, once each. */
  readonly refusals: number[] = [];
  /** What every request is answered with; null: what it asks for. */
  status: number | null = null;
  /** Whether files must be asked for with the token. */
  isPrivate = false;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<HubServer> {
    const server = createServer((request, response) => void hub.#answer(request, response));
    const hub = new HubServer(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return hub;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const { pathname } = new URL(request.url!, this.url);
    const { method, headers } = request;
    this.requests.push(`${method} ${pathname} ${headers.range ?? ''}`.trim());
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    const send = (status: number, value: unknown, type = 'application/json') => {
      response.writeHead(status, { 'content-type': type });
      response.end(Buffer.isBuffer(value) ? value : JSON.stringify(value));
      return null;
    };
    if (this.status !== null) return send(this.status, { error: 'out of order' });
    const allowed = headers.authorization === `Bearer ${TOKEN}`;
    // Asking about paths is a POST that anyone may make.
    const writes = method !== 'GET' && !pathname.includes('/paths-info/');
    if ((this.isPrivate || writes) && !allowed && !pathname.startsWith('/lfs/'))
      return send(401, { error: 'no token' });
    let match = /^\/api\/(models|datasets)\/([\w.-]+\/[\w.-]+)(.*)$/.exec(pathname);
    if (match !== null) return this.#api(this[match[1] as 'models'], match[2]!, match[3]!, body, send);
    match = /^\/(datasets\/)?([\w.-]+\/[\w.-]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname);
    if (match !== null) {
      const refusal = this.refusals.shift();
      if (refusal !== undefined) return send(refusal, { error: 'later' });
      const bytes = (match[1] === undefined ? this.models : this.datasets).get(match[2]!)?.get(match[4]!);
      return this.#file(bytes, match[4]!, headers.range, response, send);
    }
    if (pathname === '/api/repos/create') {
      const { name, organization } = JSON.parse(body.toString());
      this.models.set(`${organization}/${name}`, new Map());
      return send(200, { url: `${this.url}/${organization}/${name}`, id: `${organization}/${name}` });
    }
    if (pathname.endsWith('.git/info/lfs/objects/batch')) {
      const { objects } = JSON.parse(body.toString()) as { objects: { oid: string; size: number }[] };
      const answered = objects.map(({ oid, size }) => ({
        oid,
        size,
        actions: { upload: { href: `${this.url}/lfs/${oid}`, header: {} } },
      }));
      return send(200, { transfer: 'basic', objects: answered }, 'application/vnd.git-lfs+json');
    }
    if (pathname.startsWith('/lfs/') && method === 'PUT') {
      const oid = pathname.slice('/lfs/'.length);
      if (createHash('sha256').update(body).digest('hex') !== oid) return send(400, { error: 'wrong hash' });
      this.#objects.set(oid, body);
      return send(200, {});
    }
    return send(404, { error: 'not found' });
  }

  #api(
    repositories: Map<string, Map<string, Buffer>>,
    id: string,
    rest: string,
    body: Buffer,
    send: (status: number, value: unknown) => null,
  ): null {
    const files = repositories.get(id);
    if (files === undefined) return send(404, { error: 'Repository not found' });
    if (rest === '') return send(200, { id });
    if (rest.startsWith('/revision/'))
      return ['main', 'v1', 'refs%2Fconvert%2Fparquet'].includes(rest.slice('/revision/'.length))
        ? send(200, {
            _id: '1',
            id,
            sha: COMMIT,
            private: false,
            gated: false,
            likes: 0,
            downloads: 0,
            lastModified: '2026-01-01',
          })
        : send(404, { error: 'Revision not found' });
    if (rest === `/tree/${COMMIT}`) {
      const entries = [...files].map(([path, bytes]) => entryOf(path, bytes));
      return send(200, [...entries, { type: 'directory', path: 'onnx', size: 0, oid: '0' }]);
    }
    if (rest === `/paths-info/${COMMIT}`) {
      const { paths } = JSON.parse(body.toString()) as { paths: string[] };
      const entries = paths.flatMap((path) => (files.has(path) ? [entryOf(path, files.get(path)!)] : []));
      return send(200, entries);
    }
    if (rest === '/preupload/main') {
      const { files: asked } = JSON.parse(body.toString()) as { files: { path: string }[] };
      const modes = asked.map(({ path }) => ({ path, uploadMode: isLarge(path) ? 'lfs' : 'regular' }));
      return send(200, { files: modes });
    }
    if (rest === '/commit/main') {
      for (const line of body.toString().split('\n').filter(Boolean)) {
        const { key, value } = JSON.parse(line);
        if (key === 'file') files.set(value.path, Buffer.from(value.content, value.encoding));
        if (key === 'lfsFile') files.set(value.path, this.#objects.get(value.oid)!);
      }
      return send(200, {
        success: true,
        commitOid: COMMIT,
        commitUrl: `${this.url}/${id}/commit/${COMMIT}`,
        hookOutput: '',
      });
    }
    return send(404, { error: 'not found' });
  }

  #file(
    bytes: Buffer | undefined,
    path: string,
    range: string | undefined,
    response: ServerResponse,
    send: (status: number, value: unknown) => null,
  ): null {
    if (bytes === undefined) return send(404, { error: 'Entry not found' });
    const start = Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    const rest = bytes.subarray(start);
    const length = { 'content-length': String(rest.length) };
    if (range === undefined) response.writeHead(200, length);
    else response.writeHead(206, { ...length, 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` });
    const breakAt = isLarge(path) ? this.breaks.shift() : undefined;
    if (breakAt === undefined) response.end(rest);
    // A reset would take back what the client has not read yet.
    else response.write(rest.subarray(0, breakAt), () => setTimeout(() => response.destroy(), 100));
    return null;
  }
}

/** What the Hub keeps in LFS. */
function isLarge(path: string): boolean {
  return /\.(safetensors|parquet|gz)$/.test(path);
}

function entryOf(path: string, bytes: Buffer) {
  return {
    type: 'file',
    path,
    size: bytes.length,
    oid: createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex'),
    ...(isLarge(path)
      ? { lfs: { oid: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, pointerSize: 130 } }
      : {}),
  };
}
