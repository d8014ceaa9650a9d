/* ONNX models: what a model file says of its graph, as a tree of named fields, and
 * the values of its tensors. Nothing in a file is trusted, and nothing is executed.
 *
 * A model is a message of protobuf's wire format: numbered fields, of which some are
 * messages again. The fields that are read, and their names, are in one table in
 * onnx.c; all others are passed over. The structure is read through a window on the
 * file. The numbers of tensors, which are nearly all of a file, are not read with it:
 * an item holds their place, and onnx_tensor copies them once, from the file into the
 * tensor. (A mapped file would end the process where another one cuts it short.)
 *
 * Not here: what a graph means. That is lua/advrt/nets/onnx/.
 */
#ifndef ADVRT_IO_ONNX_H
#define ADVRT_IO_ONNX_H

#include "base/buffer.h"
#include "tensor/tensor.h"

/* The most of a model: items, bytes of one text and of all texts. */
enum { ONNX_ITEMS = 1 << 21, ONNX_TEXT = 1 << 16, ONNX_TEXTS = 1 << 26 };

/* What a field holds. DATA is an array of numbers whose place alone is noted. */
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
    OnnxMessage message; /* of ONNX_MESSAGE: which */
} OnnxField;

/* A field of a message, and for one that is repeated an element of it. */
typedef struct OnnxItem {
    const OnnxField *field;
    int first,
        next; /* items: a message's first field; the next field of the same message; 0: none */
    int64_t integer;
    double real;
    uint64_t at;    /* of a text: its place in `texts`; of data: its place in the file */
    uint64_t bytes; /* of a text, without the NUL behind it, and of data */
} OnnxItem;

typedef struct Onnx {
    char *path; /* NULL: nothing is open */
    int fd;
    uint64_t size;   /* of the file */
    OnnxItem *items; /* [0] is the model, a message without a field */
    int count, room;
    Buffer texts;
} Onnx;

/* Reads the structure of a model file; on failure *out is empty, and the message starts with the
 * path. Free with onnx_close, to which an empty one may be given. */
int onnx_open(Onnx *out, const char *path, Error *e);
void onnx_close(Onnx *model);
/* The text of a text item. */
const char *onnx_text(const Onnx *model, const OnnxItem *item);
/* The first field of a name in a message item, NULL where it has none. */
const OnnxItem *onnx_find(const Onnx *model, const OnnxItem *message, const char *name);

/* The values of a tensor item, which may be in another file of the model's folder, on device d. The
 * message starts with the path. */
int onnx_tensor(const Onnx *model, const OnnxItem *item, Device *d, Tensor *out, Error *e);
/* Where a tensor's values are in another file: its path, to be freed with memory_free; else NULL.
 */
int onnx_tensor_file(const Onnx *model, const OnnxItem *item, char **path, Error *e);

/* For the reader and onnx_tensor: protobuf's numbers. Reads a varint at *at of n bytes: 0, or -1
 * where it is cut short or has more than 64 bits. */
int onnx_varint(const unsigned char *bytes, size_t n, size_t *at, uint64_t *out);

#endif
