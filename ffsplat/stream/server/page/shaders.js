// How Gaussians become quads or points, in GLSL.
//
// Projection: Zwicker et al., EWA Splatting (2001), as in Kerbl et al., 3D Gaussian Splatting
// (2023), section 4; the slope of the Jacobian is frozen outside the picture, and 0.3 square pixels
// are added to the covariance, as is customary since.

/** Reads a record (see replica.js) and takes its centre into the camera. */
const RECORD = `
uniform highp usampler2D records;
uniform highp usampler2D marks;
uniform highp usampler2D order;  // places from far to near
uniform highp sampler2D submaps;
uniform mat4 view;       // camera_from_world
uniform vec3 lens;       // focal length, width and height in pixels
uniform float near;
uniform bool marking;

struct Splat { vec4 color; vec3 scales; vec4 quaternion; mat4 toWorld; vec3 center; };

vec4 bytes(uint word) {
  return vec4(word & 255u, (word >> 8) & 255u, (word >> 16) & 255u, word >> 24);
}

/** The Gaussian that comes after so many others. */
Splat read(int index) {
  uint place = texelFetch(order, ivec2(index & 1023, index >> 10), 0).r;
  ivec2 at = ivec2(int(place & 1023u), int(place >> 10));
  uvec4 a = texelFetch(records, ivec2(2 * at.x, at.y), 0);
  uvec4 b = texelFetch(records, ivec2(2 * at.x + 1, at.y), 0);
  int submap = int(b.y >> 16);
  ivec2 row = ivec2(4 * (submap & 255), submap >> 8);
  Splat splat;
  splat.toWorld = transpose(mat4(
    texelFetch(submaps, row, 0),
    texelFetch(submaps, row + ivec2(1, 0), 0),
    texelFetch(submaps, row + ivec2(2, 0), 0),
    vec4(0.0, 0.0, 0.0, 1.0)));
  splat.center = (view * (splat.toWorld * vec4(uintBitsToFloat(a.xyz), 1.0))).xyz;
  vec4 turns = bytes(a.w);
  splat.quaternion = normalize(turns - 256.0 * step(127.5, turns));
  splat.scales = vec3(unpackHalf2x16(b.x), unpackHalf2x16(b.y).x);
  splat.color = bytes(b.z) / 255.0;
  if (marking) {
    bool hit = texelFetch(marks, at, 0).r > 0u;
    float grey = dot(splat.color.rgb, vec3(0.299, 0.587, 0.114));
    splat.color.rgb = hit
      ? mix(vec3(1.0, 0.69, 0.0), splat.color.rgb, 0.25)
      : 0.4 * mix(vec3(grey), splat.color.rgb, 0.4);
  }
  return splat;
}

vec4 onScreen(vec2 pixels) {
  vec2 at = 2.0 * pixels / lens.yz;
  return vec4(at.x, -at.y, 0.0, 1.0);
}

const vec4 NOWHERE = vec4(2.0, 2.0, 2.0, 1.0);
`;

/** Six vertices a Gaussian, without attributes: small instances are slow on many devices. */
export const QUAD_VERTEX = `${RECORD}
out vec4 color;
out vec2 corner;

mat3 rotation(vec4 q) {
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

void main() {
  Splat splat = read(gl_VertexID / 6);
  vec3 center = splat.center;
  gl_Position = NOWHERE;
  color = splat.color;
  if (center.z < near || color.a < 1.0 / 255.0) return;
  mat3 axes = mat3(view) * mat3(splat.toWorld) * rotation(splat.quaternion);
  axes = mat3(axes[0] * splat.scales.x, axes[1] * splat.scales.y, axes[2] * splat.scales.z);
  vec2 slope = center.xy / center.z;
  vec2 most = 1.3 * 0.5 * lens.yz / lens.x;
  vec2 bounded = clamp(slope, -most, most);
  mat3 rows = transpose(axes);
  float zoom = lens.x / center.z;
  vec3 across = zoom * (rows[0] - bounded.x * rows[2]);  // of the three axes, in pixels
  vec3 down = zoom * (rows[1] - bounded.y * rows[2]);
  float xx = dot(across, across) + 0.3, yy = dot(down, down) + 0.3, xy = dot(across, down);
  float middle = 0.5 * (xx + yy), apart = length(vec2(0.5 * (xx - yy), xy));
  float large = middle + apart;
  float small = max(middle - apart, 0.1);
  vec2 along = abs(xy) > 1e-6 * large ? normalize(vec2(xy, large - xx))
    : (xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0));
  float reach = sqrt(2.0 * log(255.0 * color.a));  // where alpha falls to 1/255
  int vertex = gl_VertexID % 6;
  int turn = vertex < 3 ? vertex : vertex - 2;  // 0 1 2, 1 2 3
  vec2 side = vec2(float(turn & 1), float(turn >> 1)) * 2.0 - 1.0;
  corner = reach * side;
  vec2 offset = corner.x * min(sqrt(large), 1024.0) * along
    + corner.y * min(sqrt(small), 1024.0) * vec2(-along.y, along.x);
  gl_Position = onScreen(lens.x * slope + offset);
}`;

export const QUAD_FRAGMENT = `
in vec4 color;
in vec2 corner;
out vec4 pixel;

void main() {
  float alpha = color.a * exp(-0.5 * dot(corner, corner));
  if (alpha < 1.0 / 255.0) discard;
  pixel = vec4(color.rgb * alpha, alpha);
}`;

export const POINT_VERTEX = `${RECORD}
uniform int thin;  // how many Gaussians each stands for
out vec4 color;

void main() {
  Splat splat = read(gl_VertexID * thin);
  gl_Position = NOWHERE;
  gl_PointSize = 1.0;
  color = splat.color;
  if (splat.center.z < near || color.a < 0.2) return;
  float scale = length(splat.toWorld[0].xyz);
  vec3 s = splat.scales;
  float middle = s.x + s.y + s.z - max(s.x, max(s.y, s.z)) - min(s.x, min(s.y, s.z));
  gl_PointSize = clamp(3.0 * sqrt(float(thin)) * lens.x * scale * middle / splat.center.z, 1.0, 24.0);
  gl_Position = onScreen(lens.x * splat.center.xy / splat.center.z);
}`;

export const POINT_FRAGMENT = `
in vec4 color;
out vec4 pixel;
void main() { pixel = vec4(color.rgb, 1.0); }`;

export const LINE_VERTEX = `
uniform mat4 view;
uniform vec3 lens;
uniform float near;
uniform float fade;
in vec3 position;
in vec4 tint;
out vec4 color;

void main() {
  vec3 at = (view * vec4(position, 1.0)).xyz;
  // As z / w is near / z, what is nearer than near is clipped, also in the middle of a line.
  vec2 slopes = 2.0 * lens.x * at.xy / lens.yz;
  gl_Position = vec4(slopes.x, -slopes.y, at.z - 2.0 * near, at.z);
  float alpha = tint.a * smoothstep(0.4, 1.0, at.z / fade);
  color = vec4(tint.rgb * alpha, alpha);
}`;

export const LINE_FRAGMENT = `
in vec4 color;
out vec4 pixel;
void main() { pixel = color; }`;
