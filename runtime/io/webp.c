#include "io/webp.h"

#include <string.h>

#include <webp/decode.h>

#include "base/memory.h"

enum { RIFF = 12 };

bool image_is_webp(const unsigned char *bytes, size_t n) {
    return n >= RIFF && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0;
}

static int refuse(VP8StatusCode status, size_t n, Error *e) {
    if (status == VP8_STATUS_OUT_OF_MEMORY) {
        error_set(e, "libwebp: out of memory");
        return error_no_memory(e);
    }
    if (status == VP8_STATUS_NOT_ENOUGH_DATA)
        return error_set(e, "is truncated: its %zu bytes end before the image does", n);
    return error_set(e, "is damaged: libwebp cannot decode it");
}

int image_webp_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                    Error *e) {
    WebPBitstreamFeatures found;
    VP8StatusCode status = WebPGetFeatures(bytes, n, &found);
    if (status != VP8_STATUS_OK) return refuse(status, n, e);
    if (found.has_animation)
        return error_set(e, "is an animated WebP; single images are supported");
    *W = (uint32_t)found.width;
    *H = (uint32_t)found.height;
    *C = 3;
    return image_check_size(*W, *H, e);
}

int image_from_webp(const unsigned char *bytes, size_t n, Image *out, Error *e) {
    uint32_t W, H;
    int C;
    WebPDecoderConfig config;
    *out = (Image){0};
    if (image_webp_size(bytes, n, &W, &H, &C, e) != 0 || image_new(out, W, H, C, e) != 0) return -1;
    VP8StatusCode status = VP8_STATUS_UNSUPPORTED_FEATURE; /* if the library has another version */
    if (WebPInitDecoderConfig(&config)) {
        config.output.colorspace = MODE_RGB;
        config.output.is_external_memory = 1;
        config.output.u.RGBA.rgba = out->pixels;
        config.output.u.RGBA.stride = (int)W * 3;
        config.output.u.RGBA.size = (size_t)W * H * 3;
        status = WebPDecode(bytes, n, &config);
    }
    if (status == VP8_STATUS_OK) return 0;
    image_free(out);
    return refuse(status, n, e);
}
