/** Worker: the empty program whose isolate the kernels are tested in. */
export default { fetch: () => new Response(null, { status: 404 }) };
