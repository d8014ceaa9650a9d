/* The binary batches of CIFAR-10 and CIFAR-100. A record is one label byte (CIFAR-100: a coarse and
 * a fine one) and the image, 3072 bytes [3,32,32]. There is no header: the format is inferred from
 * the file's size and its labels.
 */
#ifndef ADVRT_IO_CIFAR_H
#define ADVRT_IO_CIFAR_H

#include "tensor/tensor.h"

/* The largest file in bytes. */
enum { CIFAR_MOST = 1 << 30 };

/* Reads a file on device d: *x u8 [N,3,32,32]; *y u8 [N], the labels (CIFAR-100: fine labels);
 * *classes is 10 or 100. On failure both are empty and the message starts with the path. */
int cifar_load(const char *path, Device *d, Tensor *x, Tensor *y, int *classes, Error *e);

#endif
