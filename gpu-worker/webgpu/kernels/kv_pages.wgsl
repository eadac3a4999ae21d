// Pages of keys and values, read by pieces of 8 channels; page-layout.ts says how they lie. A kernel that includes this declares
// keys, values: array<Piece> and pageTables [sequences, maxPages] u32, with BANKED also keysBeyond, valuesBeyond for pages from
// params.bankPages on; Params has kvHeads, pageTokens, maxPages, pieces (of a head), blockPieces, bankPages. UNROLLED: PIECES is params.pieces,
// so that loops over it have a constant bound; else (software adapters, which compile long) PIECES only bounds it.
// Keys lie [pieces, pageTokens] in a block, so that threads that take a position each read side by side (vLLM's layout: Kwon et al. 2023,
// csrc/attention/attention_kernels.cu); values lie [pageTokens, pieces], so that threads that take a piece each do.
#if UNROLLED
fn pieceCount() -> u32 { return u32(PIECES); }
#else
fn pieceCount() -> u32 { return params.pieces; }
#endif

struct Eight { low: vec4<f32>, high: vec4<f32> }
struct Place { bank: u32, block: u32, token: u32 }

#if F16
alias Piece = vec4<u32>;
fn unpacked(piece: Piece) -> Eight {
  return Eight(vec4(unpack2x16float(piece.x), unpack2x16float(piece.y)), vec4(unpack2x16float(piece.z), unpack2x16float(piece.w)));
}
#else
#if INT8
alias Piece = vec2<u32>;
fn unpacked(piece: Piece) -> Eight {
  return Eight(vec4<f32>(unpack4xI8(piece.x)), vec4<f32>(unpack4xI8(piece.y)));
}
#else
alias Piece = Eight;
fn unpacked(piece: Piece) -> Eight { return piece; }
#endif
#endif

/// Where `position` of a sequence lies for kvHead.
fn placeOf(sequence: u32, position: u32, kvHead: u32) -> Place {
  let page = pageTables[sequence * params.maxPages + position / params.pageTokens];
  let token = position % params.pageTokens;
#if BANKED
  let bank = select(0u, 1u, page >= params.bankPages);
  return Place(bank, ((page - bank * params.bankPages) * params.kvHeads + kvHead) * params.blockPieces, token);
#else
  return Place(0u, (page * params.kvHeads + kvHead) * params.blockPieces, token);
#endif
}

fn keyAt(bank: u32, at: u32) -> Piece {
#if BANKED
  if (bank == 1u) { return keysBeyond[at]; }
#endif
  return keys[at];
}

fn valueAt(bank: u32, at: u32) -> Piece {
#if BANKED
  if (bank == 1u) { return valuesBeyond[at]; }
#endif
  return values[at];
}

/// 8 channels of a key, still to be multiplied with keyScale.
fn keyPiece(place: Place, piece: u32) -> Eight {
  return unpacked(keyAt(place.bank, place.block + piece * params.pageTokens + place.token));
}

/// 8 channels of a value, still to be multiplied with valueScale.
fn valuePiece(place: Place, piece: u32) -> Eight {
  return unpacked(valueAt(place.bank, place.block + place.token * pieceCount() + piece));
}

#if INT8
fn scaleIn(pair: Piece, token: u32) -> f32 { return bitcast<f32>(select(pair.x, pair.y, (token & 1u) == 1u)); }
fn scaleAt(place: Place) -> u32 { return place.block + pieceCount() * params.pageTokens + place.token / 2u; }
fn keyScale(place: Place) -> f32 { return scaleIn(keyAt(place.bank, scaleAt(place)), place.token); }
fn valueScale(place: Place) -> f32 { return scaleIn(valueAt(place.bank, scaleAt(place)), place.token); }
#else
fn keyScale(place: Place) -> f32 { return 1.0; }
fn valueScale(place: Place) -> f32 { return 1.0; }
#endif
