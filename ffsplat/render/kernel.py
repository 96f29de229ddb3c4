"""Tile rasteriser for the CPU: front-to-back alpha blending and its exact gradient, in numba.

The image of each view is cut into tiles of TILE_W x TILE_H pixels. A tile keeps its pixels in
*planes* of one flat array, row after row, so that the rows a splat touches are one contiguous
range, and the loops over it run in SIMD. Three things make LLVM vectorise them: unsigned indices
(no wrap-around of negative ones), bounds that are not constants (else the loop is unrolled into
scalars first), and one base array (no aliasing to rule out). Channels beyond a multiple of 16 are
planes too; the others are blended pixel by pixel, channels innermost, where the weight is not 0.

Maths: 3D Gaussian Splatting (Kerbl et al. 2023, section 4 and appendix C). A pixel stops once its
transmittance is below STOP, after the splat that took it there; the index of that splat is stored
per pixel, because a gradient that walked further back would undo blending that never happened.
"""

import math

import numpy as np

from ffsplat.compiled import exactly_compiled

TILE_W, TILE_H = 8, 16
SPLAT_WIDTH = 7
"""Floats of a packed splat and of its gradient: u, v, conic a, b, c, opacity, depth."""

F, U = np.float32, np.uintp
ALPHA_CUT, ALPHA_MAX, STOP = F(1 / 255), F(0.999), F(1e-4)
STOP_CHECK = 32  # splats between two looks at whether a whole tile has stopped
WIDE = 16  # channels per SIMD block

TW, TH, PIXELS = U(TILE_W), U(TILE_H), U(TILE_W * TILE_H)
TRANSMITTANCE, DEPTH, LAST, WEIGHT = U(0), PIXELS, U(2) * PIXELS, U(3) * PIXELS
X, Y, FREE = U(4) * PIXELS, U(5) * PIXELS, U(6) * PIXELS
RAW, DOT, BEHIND, INVERSE = FREE, U(7) * PIXELS, U(8) * PIXELS, U(9) * PIXELS
GRAD_DEPTH, GRAD_FREE = U(10) * PIXELS, U(11) * PIXELS


def compiled(function):
    """Compile with numba; sums may be taken in any order."""
    return exactly_compiled(function, fastmath={"reassoc", "contract", "nsz", "arcp"})


@compiled
def exponential(x):
    """exp(x) for x in [-6.2, 0] (clamped), to 2e-6: the 8th power of 1 + y q(y) at y = x / 8.

    The coefficients interpolate (exp(y) - 1) / y at the 6 Chebyshev points of [-0.775, 0].
    """
    x = x if x > F(-6.2) else F(-6.2)
    y = (x if x < F(0) else F(0)) * F(0.125)
    q = F(0.16664442) + y * (F(0.04154237) + y * (F(0.00801517) + y * F(0.00100151)))
    p = F(1) + y * (F(0.99999998) + y * (F(0.49999853) + y * q))
    p = p * p
    p = p * p
    return p * p


@compiled
def tile_grid(width, height):
    """Number of tiles across and down an image."""
    return (width + TILE_W - 1) // TILE_W, (height + TILE_H - 1) // TILE_H


@compiled
def find_visible(means2d, extents, depths, width, height):
    """Sort keys of the splats that touch their image: depth bits above, flat index below."""
    keys = np.empty(len(depths), np.uint64)
    bits = depths.view(np.uint32)
    count = 0
    for i in range(len(depths)):
        u, v, half_w, half_h = means2d[i, 0], means2d[i, 1], extents[i, 0], extents[i, 1]
        inside_x = u + half_w >= F(0.5) and u - half_w <= F(width) - F(0.5)
        inside_y = v + half_h >= F(0.5) and v - half_h <= F(height) - F(0.5)
        if half_w > 0 and half_h > 0 and inside_x and inside_y:
            keys[count] = (np.uint64(bits[i]) << np.uint64(32)) | np.uint64(i)
            count += 1
    return keys[:count]


@compiled
def pack_splats(sources, means2d, conics, depths, extents, opacities, width, height):
    """Gather the visible splats in drawing order, with the inclusive pixel box of each."""
    splats = np.empty((len(sources), SPLAT_WIDTH), np.float32)
    boxes = np.empty((len(sources), 4), np.int32)
    for k in range(len(sources)):
        i = sources[k]
        u, v = means2d[i, 0], means2d[i, 1]
        splats[k, 0], splats[k, 1] = u, v
        splats[k, 2], splats[k, 3], splats[k, 4] = conics[i, 0], conics[i, 1], conics[i, 2]
        splats[k, 5], splats[k, 6] = opacities[i % len(opacities)], depths[i]
        boxes[k, 0] = math.ceil(max(u - extents[i, 0] - F(0.5), F(0)))
        boxes[k, 1] = math.ceil(max(v - extents[i, 1] - F(0.5), F(0)))
        boxes[k, 2] = math.floor(min(u + extents[i, 0] - F(0.5), F(width - 1)))
        boxes[k, 3] = math.floor(min(v + extents[i, 1] - F(0.5), F(height - 1)))
    return splats, boxes


@compiled
def cells_of(boxes):
    """Boxes in tiles instead of pixels."""
    return boxes // np.array([TILE_W, TILE_H, TILE_W, TILE_H], np.int32)


@compiled
def count_pairs(sources, boxes, count, views, width, height):
    """Where the list of each tile starts: tile t will own pairs[starts[t] : starts[t + 1]]."""
    tiles_x, tiles_y = tile_grid(width, height)
    cells, sizes = cells_of(boxes), np.zeros(views * tiles_x * tiles_y + 1, np.int64)
    for k in range(len(cells)):
        for y in range(cells[k, 1], cells[k, 3] + 1):
            row = (sources[k] // count * tiles_y + y) * tiles_x
            for tile in range(row + cells[k, 0], row + cells[k, 2] + 1):
                sizes[tile + 1] += 1
    return np.cumsum(sizes)


@compiled
def fill_pairs(starts, sources, boxes, count, width, height):
    """The splats of each tile, near to far."""
    tiles_x, tiles_y = tile_grid(width, height)
    cells, cursor = cells_of(boxes), starts[:-1].copy()
    pairs = np.empty(starts[-1], np.int32)
    for k in range(len(cells)):
        for y in range(cells[k, 1], cells[k, 3] + 1):
            row = (sources[k] // count * tiles_y + y) * tiles_x
            for tile in range(row + cells[k, 0], row + cells[k, 2] + 1):
                pairs[cursor[tile]] = k
                cursor[tile] += 1
    return pairs


@compiled
def tile_corner(tile, width, height):
    """View and top-left pixel of a tile."""
    tiles_x, tiles_y = tile_grid(width, height)
    view, rest = tile // (tiles_x * tiles_y), tile % (tiles_x * tiles_y)
    return view, rest % tiles_x * TILE_W, rest // tiles_x * TILE_H


@compiled
def tile_planes(count):
    """`count` planes of a tile in one array, with the pixel coordinates filled in."""
    state = np.zeros(PIXELS * U(count), np.float32)
    for i in range(PIXELS):
        state[X + i], state[Y + i] = i % TW, i // TW
    return state


@compiled
def rows_of(box, y0):
    """Range of a tile's plane that a box covers (whole rows)."""
    return U(max(box[1] - y0, 0)) * TW, U(min(box[3] - y0, TILE_H - 1) + 1) * TW


@compiled
def stopped(state):
    """Whether every pixel of the tile has stopped."""
    brightest = F(0)
    for i in range(PIXELS):
        brightest = max(brightest, state[i])
    return brightest < STOP


@compiled
def cover(state, low, high, splat, x0, y0, number):
    """Blend one splat's opacity and depth; leave its weight per pixel in the WEIGHT plane."""
    u, v = splat[0] - F(0.5) - F(x0), splat[1] - F(0.5) - F(y0)
    a, b, c, opacity, depth = F(-0.5) * splat[2], splat[3], F(-0.5) * splat[4], splat[5], splat[6]
    number = F(number)
    for i in range(low, high):
        dx, dy = state[X + i] - u, state[Y + i] - v
        alpha = opacity * exponential((a * dx - b * dy) * dx + c * dy * dy)
        alpha = alpha if alpha < ALPHA_MAX else ALPHA_MAX
        transmittance, last = state[i], state[LAST + i]
        live = (alpha >= ALPHA_CUT) & (transmittance >= STOP)
        alpha = alpha if live else F(0)
        state[i] = transmittance * (F(1) - alpha)
        state[DEPTH + i] += transmittance * alpha * depth
        state[LAST + i] = number if live else last
        state[WEIGHT + i] = transmittance * alpha


@compiled
def blend_planes(state, low, high, features, row, channels):
    """Add weight x feature to the channels that are planes."""
    for channel in range(channels):
        feature, plane = features[row + channel], FREE + channel * PIXELS
        for i in range(low, high):
            state[plane + i] += feature * state[WEIGHT + i]


@compiled
def blend_wide(state, low, high, features, row, image, first, width, skip, channels):
    """Add weight x feature to the wide channels of the image, where the weight is not 0."""
    for i in range(low, high):
        weight = state[WEIGHT + i]
        if weight > 0:
            pixel = (first + i // TW * width + i % TW) * channels
            for channel in range(skip, channels):
                image[pixel + channel] += weight * features[row + channel]


@compiled
def forward_tiles(tiles, size, binned, features, channels, image, depth, transmittance, last):
    """Blend tiles[0] .. tiles[1] - 1 into the flat images; `last` counts from 1, 0 is none."""
    (width, height), (starts, pairs, splats, boxes, owners) = size, binned
    channels = U(channels)
    narrow = channels % U(WIDE)
    state = tile_planes(U(6) + narrow)
    for tile in range(tiles[0], tiles[1]):
        view, x0, y0 = tile_corner(tile, width, height)
        first = U((view * height + y0) * width + x0)
        across, down = U(min(TILE_W, width - x0)), U(min(TILE_H, height - y0))
        state[:X] = 0
        state[FREE:] = 0
        for y in range(down):
            state[y * TW : y * TW + across] = 1
        for pair in range(starts[tile], starts[tile + 1]):
            number = pair - starts[tile] + 1
            if number % STOP_CHECK == 0 and stopped(state):
                break
            k = pairs[pair]
            low, high = rows_of(boxes[k], y0)
            row = U(owners[k]) * channels
            cover(state, low, high, splats[k], x0, y0, number)
            blend_planes(state, low, high, features, row, narrow)
            if narrow < channels:
                blend_wide(
                    state, low, high, features, row, image, first, U(width), narrow, channels
                )
        for y in range(down):
            for x in range(across):
                i, pixel = y * TW + x, first + y * U(width) + x
                transmittance[pixel], depth[pixel] = state[i], state[DEPTH + i]
                last[pixel] = state[LAST + i]
                for channel in range(narrow):
                    image[pixel * channels + channel] = state[FREE + channel * PIXELS + i]


@compiled
def uncover(state, low, high, splat, x0, y0, number):
    """Step one splat back: its WEIGHT, its unclamped alpha in RAW (0 where clamped or unused)."""
    u, v = splat[0] - F(0.5) - F(x0), splat[1] - F(0.5) - F(y0)
    a, b, c, opacity, depth = F(-0.5) * splat[2], splat[3], F(-0.5) * splat[4], splat[5], splat[6]
    number = F(number)
    for i in range(low, high):
        dx, dy = state[X + i] - u, state[Y + i] - v
        raw = opacity * exponential((a * dx - b * dy) * dx + c * dy * dy)
        alpha = raw if raw < ALPHA_MAX else ALPHA_MAX
        alpha = alpha if (alpha >= ALPHA_CUT) & (number <= state[LAST + i]) else F(0)
        inverse = F(1) / (F(1) - alpha)
        transmittance = state[i] * inverse
        state[i], state[INVERSE + i] = transmittance, inverse
        state[WEIGHT + i] = transmittance * alpha
        state[RAW + i] = raw if alpha == raw else F(0)
        state[DOT + i] = depth * state[GRAD_DEPTH + i]


@compiled
def gather_planes(state, low, high, features, row, channels, slots, slot):
    """Gradient of the plane channels' features; adds feature x image gradient to DOT."""
    for channel in range(channels):
        feature, plane, total = features[row + channel], GRAD_FREE + channel * PIXELS, F(0)
        for i in range(low, high):
            state[DOT + i] += feature * state[plane + i]
            total += state[WEIGHT + i] * state[plane + i]
        slots[slot + channel] = total


@compiled
def gather_wide(state, low, high, features, row, image, first, width, skip, channels, slots, slot):
    """The same for the wide channels, where the weight is not 0."""
    for i in range(low, high):
        weight, total = state[WEIGHT + i], F(0)
        if weight > 0:
            pixel = (first + i // TW * width + i % TW) * channels
            for channel in range(skip, channels):
                total += features[row + channel] * image[pixel + channel]
                slots[slot + channel] += weight * image[pixel + channel]
            state[DOT + i] += total


@compiled
def gather_shape(state, low, high, splat, x0, y0, slots, slot):
    """Gradient of one splat's position, conic, opacity and depth; moves BEHIND past it.

    With q = dL/d(exponent), every one of them is a moment of q over the offsets dx, dy.
    """
    u, v = splat[0] - F(0.5) - F(x0), splat[1] - F(0.5) - F(y0)
    q0 = qx = qy = qxx = qxy = qyy = qz = F(0)
    for i in range(low, high):
        dx, dy = state[X + i] - u, state[Y + i] - v
        transmittance, weight, dot = state[i], state[WEIGHT + i], state[DOT + i]
        behind = state[BEHIND + i]
        grad_alpha = transmittance * dot - behind * state[INVERSE + i]
        state[BEHIND + i] = behind + weight * dot
        q = grad_alpha * state[RAW + i]
        q0, qx, qy = q0 + q, qx + q * dx, qy + q * dy
        qxx, qxy, qyy = qxx + q * dx * dx, qxy + q * dx * dy, qyy + q * dy * dy
        qz += weight * state[GRAD_DEPTH + i]
    a, b, c = splat[2], splat[3], splat[4]
    slots[slot], slots[slot + U(1)] = a * qx + b * qy, b * qx + c * qy
    slots[slot + U(2)], slots[slot + U(3)], slots[slot + U(4)] = F(-0.5) * qxx, -qxy, F(-0.5) * qyy
    slots[slot + U(5)], slots[slot + U(6)] = q0 / splat[5], qz


@compiled
def backward_tiles(tiles, size, binned, features, channels, blended, gradients, slots):
    """Gradient of every (tile, splat) pair of tiles[0] .. tiles[1] - 1, into its own slot.

    `blended` is (transmittance, last) of `forward_tiles`; `gradients` belong to its image, depth
    and transmittance.
    """
    (width, height), (starts, pairs, splats, boxes, owners) = size, binned
    (transmittance, last), (grad_image, grad_depth, grad_transmittance) = blended, gradients
    channels, shape = U(channels), U(SPLAT_WIDTH)
    narrow = channels % U(WIDE)
    state = tile_planes(U(11) + narrow)
    for tile in range(tiles[0], tiles[1]):
        view, x0, y0 = tile_corner(tile, width, height)
        first = U((view * height + y0) * width + x0)
        across, down = U(min(TILE_W, width - x0)), U(min(TILE_H, height - y0))
        state[:X] = 0
        state[FREE:] = 0
        state[:PIXELS] = 1
        deepest = 0
        for y in range(down):
            for x in range(across):
                i, pixel = y * TW + x, first + y * U(width) + x
                state[i], state[LAST + i] = transmittance[pixel], last[pixel]
                state[BEHIND + i] = grad_transmittance[pixel] * transmittance[pixel]
                state[GRAD_DEPTH + i] = grad_depth[pixel]
                for channel in range(narrow):
                    state[GRAD_FREE + channel * PIXELS + i] = grad_image[pixel * channels + channel]
                deepest = max(deepest, last[pixel])
        for pair in range(starts[tile] + deepest - 1, starts[tile] - 1, -1):
            k, slot = pairs[pair], U(pair - starts[tiles[0]]) * (shape + channels)
            low, high = rows_of(boxes[k], y0)
            row = U(owners[k]) * channels
            uncover(state, low, high, splats[k], x0, y0, pair - starts[tile] + 1)
            gather_planes(state, low, high, features, row, narrow, slots, slot + shape)
            if narrow < channels:
                gather_wide(
                    state,
                    low,
                    high,
                    features,
                    row,
                    grad_image,
                    first,
                    U(width),
                    narrow,
                    channels,
                    slots,
                    slot + shape,
                )
            gather_shape(state, low, high, splats[k], x0, y0, slots, slot)


@compiled
def add_slots(tiles, binned, sources, slots, grad_splats, grad_features):
    """Sum the slots of tiles[0] .. tiles[1] - 1 per splat and per Gaussian, in a fixed order."""
    starts, pairs, _, _, owners = binned
    base = starts[tiles[0]]
    for pair in range(base, starts[tiles[1]]):
        splat = pairs[pair]
        for i in range(SPLAT_WIDTH):
            grad_splats[sources[splat], i] += slots[pair - base, i]
        for i in range(grad_features.shape[1]):
            grad_features[owners[splat], i] += slots[pair - base, SPLAT_WIDTH + i]
