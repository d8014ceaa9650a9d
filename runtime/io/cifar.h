/* The binary batches of CIFAR-10 and CIFAR-100: records of one label byte, or of a coarse and a
 * fine one, and the image, 3072 bytes [3,32,32]. There is no header, so the file's size and its
 * labels are all that tells what it is.
 */
#ifndef ADVRT_IO_CIFAR_H
#define ADVRT_IO_CIFAR_H

#include "tensor/tensor.h"

/* The most bytes of a file. */
enum { CIFAR_MOST = 1 << 30 };

/* Reads a file on device d: *x u8 [N,3,32,32], *y u8 [N], the labels, of CIFAR-100 the fine ones;
 * *classes is 10 or 100. On failure both are empty and the message starts with the path. */
int cifar_load(const char *path, Device *d, Tensor *x, Tensor *y, int *classes, Error *e);

#endif
