// What WebGL 2 takes many words for.

/** A program with its uniforms by name; throws with the log of the compiler. */
export function makeProgram(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, `#version 300 es\nprecision highp float;\n${source}`);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error([gl.getProgramInfoLog(program), ...logs].join("\n"));
  }
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
    const { name } = gl.getActiveUniform(program, i);
    uniforms[name] = gl.getUniformLocation(program, name);
  }
  return { program, uniforms };
}

/** A table of numbers on the GPU, which grows and is written row by row. */
export class Table {
  /** `format` is the names of the internal format, the format and the type. */
  constructor(gl, width, channels, format) {
    this.gl = gl;
    this.width = width;
    this.step = width * channels;
    this.format = format.map((name) => gl[name]);
    this.texture = gl.createTexture();
    this.height = 0;
  }

  /** Have room for so many rows; whether what was there is lost. */
  resize(height) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    if (this.height === height) return false;
    this.height = height;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
    }
    const [internal, format, type] = this.format;
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, this.width, height, 0, format, type, null);
    return true;
  }

  /** Write rows `first` to before `end` of an array that holds all rows. */
  write(values, first, end) {
    const { gl, width, step } = this;
    const [, format, type] = this.format;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const some = values.subarray(first * step, end * step);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, first, width, end - first, format, type, some);
  }

  /** Let a uniform of the program in use read it through a unit. */
  bind(uniform, unit) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.uniform1i(uniform, unit);
  }
}
