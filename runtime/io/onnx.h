/* ONNX models: the graph of a model file as a tree of named fields, and the values of its tensors.
 * Nothing in a file is trusted or executed.
 *
 * A model is a protobuf message: numbered fields, some of them messages. A table in onnx.c lists
 * the supported fields and their names; other fields are skipped. A window on the file reads the
 * structure. Tensor data, nearly all of a file, is not read with it: an item holds its position,
 * and onnx_tensor copies it once from the file into the tensor. (With a mapped file, truncation by
 * another process would kill this one.)
 *
 * Not here: the meaning of a graph. See lua/advrt/nets/onnx/.
 */
#ifndef ADVRT_IO_ONNX_H
#define ADVRT_IO_ONNX_H

#include "base/buffer.h"
#include "tensor/tensor.h"

/* Limits of a model: items, bytes of one string and of all strings. */
enum { ONNX_ITEMS = 1 << 21, ONNX_TEXT = 1 << 16, ONNX_TEXTS = 1 << 26 };

/* The content of a field. DATA is an array of numbers; only its position is stored. */
typedef enum OnnxForm { ONNX_INTEGER, ONNX_REAL, ONNX_STRING, ONNX_DATA, ONNX_MESSAGE } OnnxForm;

typedef enum OnnxMessage {
    ONNX_MODEL,
    ONNX_OPSET,
    ONNX_GRAPH,
    ONNX_NODE,
    ONNX_ATTRIBUTE,
    ONNX_VALUE,
    ONNX_TYPE,
    ONNX_TENSOR_TYPE,
    ONNX_SHAPE,
    ONNX_DIMENSION,
    ONNX_TENSOR,
    ONNX_ENTRY,
    ONNX_FUNCTION,
    ONNX_MESSAGES
} OnnxMessage;

typedef struct OnnxField {
    unsigned number;
    const char *name;
    OnnxForm form;
    bool repeated;
    OnnxMessage message; /* the kind of an ONNX_MESSAGE */
} OnnxField;

/* A field of a message; each element of a repeated field is one item. */
typedef struct OnnxItem {
    const OnnxField *field;
    int first,
        next; /* items: a message's first field; the next field of the same message; 0: none */
    int64_t integer;
    double real;
    uint64_t at;    /* string: offset in `texts`; data: offset in the file */
    uint64_t bytes; /* of a string, without its NUL; of data */
} OnnxItem;

typedef struct Onnx {
    char *path; /* NULL: nothing is open */
    int fd;
    uint64_t size;   /* of the file */
    OnnxItem *items; /* [0] is the model, a message without a field */
    int count, room;
    Buffer texts;
} Onnx;

/* Reads the structure of a model file. On failure *out is empty, and the message starts with the
 * path. Free it with onnx_close, which accepts an empty one. */
int onnx_open(Onnx *out, const char *path, Error *e);
void onnx_close(Onnx *model);
/* The text of a text item. */
const char *onnx_text(const Onnx *model, const OnnxItem *item);
/* The first field with this name in a message item, or NULL. */
const OnnxItem *onnx_find(const Onnx *model, const OnnxItem *message, const char *name);

/* Reads the values of a tensor item on device d; they may be in another file of the model's folder.
 * The message starts with the path. */
int onnx_tensor(const Onnx *model, const OnnxItem *item, Device *d, Tensor *out, Error *e);
/* The path of the other file that holds a tensor's values (free with memory_free), or NULL.
 */
int onnx_tensor_file(const Onnx *model, const OnnxItem *item, char **path, Error *e);

/* Shared with onnx_tensor: reads a varint at *at of n bytes. Returns 0, or -1 if it is truncated or
 * exceeds 64 bits. */
int onnx_varint(const unsigned char *bytes, size_t n, size_t *at, uint64_t *out);

#endif
