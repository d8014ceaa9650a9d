#define _POSIX_C_SOURCE 200809L
#include "io/foreign.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SAVE                                                                                       \
    "in PyTorch, save the weights by torch.save({\"state_dict\": model.state_dict()}, FILE)"
#define WANTED "wanted is .safetensors, .pth or .msgpack"

typedef struct Kind {
    size_t at, n;
    const char *bytes, *message;
} Kind;

/* Signatures of file formats. */
static const Kind kinds[] = {
    {0, 8, "\x89HDF\r\n\x1a\n", "is an HDF5 file (Keras), which is not supported; " WANTED},
    {0, 8, "\x89PNG\r\n\x1a\n", "is a PNG image, not weights; use --images for images"},
    {0, 3, "\xff\xd8\xff", "is a JPEG image, not weights; use --images for images"},
    {0, 4, "GIF8", "is a GIF image, not weights; use --images for images"},
    {8, 4, "WEBP", "is a WebP image, not weights; use --images for images"},
    {0, 6, "\x93NUMPY", "is one array of NumPy's (.npy), which has no name; " WANTED},
    {0, 4, "GGUF", "is a GGUF file, which is not supported; " WANTED},
    {4, 4, "TFL3", "is a TensorFlow Lite model, which is not supported; " WANTED},
    {0, 2, "\x1f\x8b", "is compressed with gzip; unpack it with gunzip first"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "is compressed with xz; unpack it with unxz first"},
    {0, 4, "\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it with unzstd first"},
    {0, 3, "BZh", "is compressed with bzip2; unpack it with bunzip2 first"},
    {0, 6, "7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"},
    {0, 4, "%PDF", "is a PDF document, not weights"},
    {0, 4,
     "\x7f"
     "ELF",
     "is a program, not weights"},
    {0, 4, "\x1bLua", "is compiled Lua, not weights"},
};

/* The first fields of ModelProto: ir_version (a small number), then the producer's name, an opset
 * or the graph, each with a length. */
static bool is_onnx(const unsigned char *b, size_t n) {
    return n > 4 && b[0] == 0x08 && b[1] > 0 && b[1] < 64 &&
           (b[2] == 0x12 || b[2] == 0x3a || b[2] == 0x42);
}

/* Zeros, or a table's block: a TensorFlow checkpoint's .index starts with an empty key and a
 * length.
 */
static bool is_tensorflow_index(const unsigned char *b, size_t n) {
    return n > 4 && b[0] == 0 && b[1] == 0 && b[2] > 0 && b[2] < 64 && (b[3] == 8 || b[3] == 0x0a);
}

int foreign_refuse(const unsigned char *bytes, size_t n, Error *e) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const Kind *k = &kinds[i];
        if (n >= k->at + k->n && memcmp(bytes + k->at, k->bytes, k->n) == 0)
            return error_set(e, "%s", k->message);
    }
    if (is_onnx(bytes, n)) return error_set(e, "is an ONNX model; use --net for models");
    if (is_tensorflow_index(bytes, n))
        return error_set(
            e, "is the index of a TensorFlow checkpoint, which is not supported; " WANTED);
    return error_set(e,
                     "is no weight file: neither safetensors nor PyTorch's .pth nor msgpack with "
                     "format = 'advrt.tensors'");
}

bool foreign_is_text(const unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isprint(bytes[i]) && !isspace(bytes[i]) && bytes[i] < 0x80) return false;
    return bytes[0] < 0x80;
}

static bool has_suffix(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

static bool begins(const unsigned char *bytes, size_t n, const char *text) {
    return n >= strlen(text) && memcmp(bytes, text, strlen(text)) == 0;
}

int foreign_refuse_text(const char *path, const unsigned char *bytes, size_t n, Error *e) {
    char line[33];
    size_t length = 0;
    if (begins(bytes, n, "version https://git-lfs"))
        return error_set(e, "is a pointer of Git LFS, not the weights; `git lfs pull` in its "
                            "repository gets them");
    if (begins(bytes, n, "model_checkpoint_path"))
        return error_set(e,
                         "is the list of a TensorFlow checkpoint, which is not supported; " WANTED);
    if (has_suffix(path, ".lua"))
        return error_set(e, "is a network definition, not weights; use --net for it");
    while (length < n && length < sizeof line - 1 && bytes[length] != '\n' && bytes[length] != '\r')
        length++;
    memcpy(line, bytes, length);
    line[length] = 0;
    return error_set(e, "is text, not weights: it starts with '%s' (a failed download?)", line);
}

int foreign_refuse_folder(const char *path, Error *e) {
    static const char *const inside[] = {"model.safetensors.index.json", "model.safetensors",
                                         "pytorch_model.bin.index.json", "pytorch_model.bin"};
    static const char *const other[] = {"saved_model.pb", "checkpoint"};
    char name[4096];
    struct stat s;
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        int n = snprintf(name, sizeof name, "%s/%s", path, inside[i]);
        if (n > 0 && (size_t)n < sizeof name && stat(name, &s) == 0 && S_ISREG(s.st_mode))
            return error_set(e, "is a directory; its weights are in %s", name);
    }
    for (size_t i = 0; i < 2; i++) {
        int n = snprintf(name, sizeof name, "%s/%s", path, other[i]);
        if (n > 0 && (size_t)n < sizeof name && stat(name, &s) == 0 && S_ISREG(s.st_mode))
            return error_set(e, "is a TensorFlow directory, which is not supported; " WANTED);
    }
    return error_set(e, "is a directory");
}
