// The place of this thread or workgroup in a grid that foldGroups (row-ops.ts) folded into two dimensions.
fn groupIndex(group: vec3<u32>, groups: vec3<u32>) -> u32 {
  return group.y * groups.x + group.x;
}
