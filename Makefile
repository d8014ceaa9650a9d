# GNU make. Everything built goes under build/; `make help` lists what there is to ask for, and
# `make Q=` shows whole commands.

PREFIX  = /usr/local
DESTDIR =
BUILD   = build
CC      = gcc
Q       = @

# Plain x86-64 is the baseline: own vector code is chosen at run time inside the CPU device.
OPTIMISE = -O2
SANITIZE =
COVERAGE =
CFLAGS   = -std=gnu11 $(OPTIMISE) -g -fopenmp -Wall -Wextra -Wshadow -Wvla -Werror $(SANITIZE)
CPPFLAGS = -Iruntime -I$(BUILD)/generated $(shell pkg-config --cflags lua5.4 2>/dev/null) -MMD -MP
# -E: the C modules of other Lua packages (lfs, lpeg, term, system) find Lua's symbols in advrt.
LDFLAGS  = -Wl,-E -fopenmp $(SANITIZE) $(COVERAGE)
# oneDNN is the system's, or that of ONEDNN's folders include and lib; its build wants a BUILD too.
ifneq ($(ONEDNN),)
CPPFLAGS += -isystem $(abspath $(ONEDNN))/include
LDFLAGS  += -L$(abspath $(ONEDNN))/lib -Wl,-rpath,$(abspath $(ONEDNN))/lib
endif
LDLIBS   = -llua5.4 -ldnnl -lpng -ljpeg -lwebp -lzip -lmsgpackc -lz -ljansson -lutf8proc -lmd -llbfgsb -ldl -lm

SOURCES := $(sort $(shell find runtime -name '*.c' -not -path '*/cuda/*' -not -path '*/mpi/*'))
HEADERS := $(sort $(shell find runtime tests/c tests/fuzz tests/plain tests/cuda_standin -name '*.h'))
TESTS   := $(sort $(wildcard tests/c/*.c tests/fuzz/*.c tests/faults/*.c tests/plain/*.c))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
PROGRAMS := $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(filter tests/c/test_%,$(TESTS)))
FUZZED  := $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/fuzz/main.c,$(filter tests/fuzz/%,$(TESTS))))
include runtime/backend/cuda/cuda.mk
include runtime/dist/mpi/mpi.mk
SCRIPTS := $(shell grep -lE '^\#!.*\b(sh|bash)$$' .ci/run third_party/* packaging/* tests/* tests/fuzz/* 2>/dev/null)

.PHONY: all deps deps-dev demo demo-2d demo-retraining photos weights test check asan bench programs lint format docs install uninstall deb clean help
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
all: $(BUILD)/advrt $(PLUGIN) ## build/advrt, and its plugins whose libraries are found (the default)

$(BUILD)/advrt: $(OBJECTS)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The kernels round alike on every instruction set, so no product and sum are contracted; they read
# neither errno nor the floating-point flags, which would keep their loops from vectors.
$(BUILD)/runtime/backend/cpu/kernels_%.o: private CFLAGS += -ffp-contract=off -fno-math-errno -fno-trapping-math
# Vectors of 64 bytes on AVX2, none of which crosses from one file to another.
$(BUILD)/tests/c/test_convolve.o: private CFLAGS += -Wno-psabi
# What `make coverage` measures.
$(BUILD)/runtime/io/%.o: private CFLAGS += $(COVERAGE:%=-O0 %)

# Lists of the files in a folder: net/layers/conv.c gives LAYER(CONV, conv).
names_of = $(sort $(notdir $(basename $(wildcard $1/*.c))))
LISTS = $(addprefix $(BUILD)/generated/,layers.inc losses.inc modules.inc)
$(BUILD)/generated/layers.inc: LINES = $(foreach n,$(call names_of,runtime/net/layers),LAYER($(shell \
  echo $n | tr a-z A-Z),$n))
$(BUILD)/generated/losses.inc: LINES = $(foreach n,$(call names_of,runtime/tensor/losses),LOSS($n))
$(BUILD)/generated/modules.inc: LINES = $(foreach f,$(sort $(shell grep -l '^int luaopen_' \
  runtime/bind/*.c)),MODULE($(basename $(notdir $f))))
$(LISTS): FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(LINES:%='%') >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/%.o: %.c $(BUILD)/flags | $(LISTS)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# Changes only when the compiler or its flags do, and then everything is built anew.
COMMAND = $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS)
$(BUILD)/flags: FORCE
	@pkg-config --exists lua5.4 || { echo "advrt needs packages to be built: make deps" >&2; exit 1; }
	@mkdir -p $(@D)
	@echo '$(COMMAND)' | cmp -s - $@ || echo '$(COMMAND)' >$@
FORCE:

programs: $(PROGRAMS) $(BUILD)/tests/faults.so $(BUILD)/tests/advrt_plain.so
$(BUILD)/tests/test_corpus: $(FUZZED)
$(PROGRAMS): $(BUILD)/tests/%: $(BUILD)/tests/c/%.o $(filter-out $(BUILD)/runtime/main.o,$(OBJECTS))
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# A device as a plugin (docs/own-device.md): it finds the core's functions in the program.
$(BUILD)/tests/advrt_plain.so: tests/plain/plain.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(CPPFLAGS) -MF $(BUILD)/tests/plain.d $(CFLAGS) -fPIC -fvisibility=hidden -shared -o $@ $<

# What makes files and allocations fail; loaded before all else, so by itself without a sanitizer.
$(BUILD)/tests/faults.so: tests/faults/faults.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) -std=gnu11 $(shell pkg-config --cflags lua5.4 2>/dev/null) -O1 -g -fno-omit-frame-pointer \
	  -fPIC -shared -Wall -Wextra -Wshadow -Wvla -Werror -o $@ $< -ldl

deps: ## install what building and running need
	@third_party/install build run
deps-dev: ## that, and what tests and checks need
	@third_party/install build run dev

# The packages come first: what follows them is read by a make of its own.
demo: deps ## packages, build, and equal perturbation on the bundled net and images
	@$(MAKE) --no-print-directory all
	$(BUILD)/advrt experiments/equal_perturbation.lua
demo-2d: deps ## Fig. 6: the losses' gradients over the plane of two circles
	@$(MAKE) --no-print-directory all
	$(BUILD)/advrt experiments/simulation_2d.lua
demo-retraining: deps-dev ## Tables II and III on Fashion-MNIST, in under 45 minutes on two cores
	@$(MAKE) --no-print-directory all
	$(BUILD)/advrt experiments/retraining.lua --dry-run
	$(BUILD)/advrt experiments/retraining.lua
photos: deps ## both experiments on EfficientNet-Lite0 and twenty photographs
	@$(MAKE) --no-print-directory all
	@third_party/install photos
	@third_party/photos $(BUILD)/photos
	$(BUILD)/advrt experiments/evaluate.lua $(LITE0)
	$(BUILD)/advrt experiments/equal_multiplier.lua $(LITE0) $(PHOTOS) --alpha 0.001
	$(BUILD)/advrt experiments/equal_perturbation.lua $(LITE0) $(PHOTOS) --magnitude 0.05
LITE0  = --net nets/efficientnet_lite0.lua --weights $(BUILD)/photos/efficientnet_lite0.pth \
         --images $(BUILD)/photos/images
# A batch of 17: as many of the twenty as the net gets right.
PHOTOS = --targets offset:500 --iterations 60 --batch 17
weights: deps-dev ## train the bundled net anew on Fashion-MNIST
	@$(MAKE) --no-print-directory all
	$(BUILD)/advrt experiments/train.lua

test: deps-dev ## every test, in under five minutes
	@$(MAKE) --no-print-directory all programs
	@tests/run $(BUILD)
.PHONY: test-docs
test-docs: deps-dev ## the commands of README and docs that take longer than `make test` may; 15 minutes
	@$(MAKE) --no-print-directory all programs
	@ADVRT_DOCS=slow TEST_LIMIT=3600 tests/run $(BUILD) system/pages system/own_pages
.PHONY: check-cpu
check-cpu: deps-dev ## the sweep over every shape of convolution, on each instruction set here; 15 minutes
	@$(MAKE) --no-print-directory all programs
	@tests/sweep $(BUILD)
asan: ## build/asan: advrt and the tests' programs under ASan and UBSan
	@$(MAKE) --no-print-directory BUILD=build/asan PLUGIN= OPTIMISE=-O1 \
	  SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' all programs
# OpenMP's own threads are not instrumented, so there is one; the feed's readers are threads beside it.
.PHONY: tsan
tsan: ## the threads that read training images, under ThreadSanitizer
	@$(MAKE) --no-print-directory BUILD=build/tsan PLUGIN= OPTIMISE=-O1 \
	  SANITIZE='-fsanitize=thread' all build/tsan/tests/test_feed
	@OMP_NUM_THREADS=1 tests/run build/tsan feed
.PHONY: coverage
coverage: deps-dev ## how much of runtime/io the tests that concern it reach
	@$(MAKE) --no-print-directory BUILD=build/coverage PLUGIN= COVERAGE=--coverage all programs
	@tests/coverage build/coverage

# SECONDS is each target's time, RUNS how often it is run instead. The readers are clang's and
# instrumented; the devices' code is gcc's, as ever.
SECONDS = 60
.PHONY: fuzz
fuzz: $(BUILD)/advrt ## libFuzzer on each reader, or on the one that FUZZ names, for SECONDS each, or RUNS=1000000
	@third_party/install build run dev fuzz
	@$(MAKE) --no-print-directory BUILD=build/fuzz PLUGIN= build/fuzz/fuzz
	@tests/fuzz/run build/fuzz '$(FUZZ)' $(SECONDS) $(RUNS)
FUZZER = -fsanitize=address,undefined,fuzzer
$(BUILD)/fuzz: $(BUILD)/tests/fuzz/main.o $(FUZZED) $(filter-out $(BUILD)/runtime/main.o,$(OBJECTS))
	@echo "  link $@"
	$(Q)clang -Wl,-E $(FUZZER) -o $@ $^ $(LDLIBS) -lgomp
ifeq ($(BUILD),build/fuzz)
READERS = $(filter $(addprefix $(BUILD)/,runtime/base/% runtime/tensor/% runtime/io/% runtime/bind/%),$(OBJECTS))
$(READERS) $(FUZZED) $(BUILD)/tests/fuzz/main.o: private override CC = clang
$(READERS) $(FUZZED) $(BUILD)/tests/fuzz/main.o: private CFLAGS += -O1 -fno-openmp \
  -Wno-unknown-pragmas $(FUZZER:%fuzzer=%fuzzer-no-link) -fno-sanitize-recover=all
endif

# The tests of what computes, on oneDNN 3; without pip or a network they are left out.
.PHONY: test-onednn3
test-onednn3:
	@third_party/onednn3 build/onednn3-lib; case $$? in \
	0) $(MAKE) --no-print-directory BUILD=build/onednn3 ONEDNN=build/onednn3-lib PLUGIN= \
	    all $(ONEDNN3_TESTS:%=build/onednn3/tests/%) build/onednn3/tests/advrt_plain.so && \
	  tests/run build/onednn3 $(ONEDNN3_TESTS) lua/golden lua/training lua/attack lua/system ;; \
	3) echo "the tests on oneDNN 3 are left out"; echo "0 passed, 0 failed" ;; \
	*) exit 1 ;; esac
ONEDNN3_TESTS = test_plan test_plane test_layouts test_layers test_tokens test_sweep test_kernels test_convolve
.PHONY: test-onnx
test-onnx: all ## ONNX's own test data, from PyPI (third_party/onnx.txt)
	@third_party/onnx build/onnx; case $$? in \
	0) $(BUILD)/advrt tests/onnx_backend.lua build/onnx/data ;; \
	3) echo "ONNX's test data is left out"; echo "0 passed, 0 failed" ;; \
	*) exit 1 ;; esac
# BENCH holds more options, as BENCH='--works resnet50:8:gradient --rounds 15'; BENCH_PYTHON is the
# path of an interpreter that has torch; PROFILE=1 times the layers instead.
bench: all ## seconds, rates and memory of the nets, and PyTorch's where BENCH_PYTHON is set
	@$(BUILD)/advrt tests/bench/bench.lua $(if $(PROFILE),--profile --out $(BUILD)/profile.json, \
	  --out $(BUILD)/bench.json) $(BENCH)
# OTHER is the folder of a tree that has been built, as that of the commit before a change.
.PHONY: bench-turns
bench-turns: all ## this tree's speed and memory beside those of the tree OTHER, in turns
	@$(BUILD)/advrt tests/bench/turns.lua $(OTHER) $(BENCH)
# ZOO holds names of nets, as ZOO='vit_b_16 swin_t'.
.PHONY: zoo
zoo: all ## the definitions of nets/ beside torchvision's models, which BENCH_PYTHON has
	@$(BUILD)/advrt tests/zoo/zoo.lua $(BENCH_PYTHON) $(ZOO)
# ZOO names classifiers of torchvision; ALL=1 takes all below 100 M parameters.
.PHONY: zoo-onnx
zoo-onnx: all ## torchvision's smallest classifier of each family, exported to ONNX, beside PyTorch
	@$(BUILD)/advrt tests/zoo/exported.lua $(BENCH_PYTHON) $(if $(ALL),all) $(ZOO)
.PHONY: bench-gpu bench-peers bench-precision bench-scale instructions
bench-gpu: all ## the same on this machine's GPU, with batches that fill one
	@$(BUILD)/advrt --device cuda tests/bench/bench.lua --autocast \
	  --works $(subst $() ,$(comma),$(GPU_WORKS)) --out $(BUILD)/bench-gpu.json $(BENCH)
GPU_WORKS = resnet50:256:gradient resnet50:256:gradient:tf32 resnet50:256:gradient:mixed \
            resnet50:256:gradient:bf16 resnet50:32:gradient resnet18:256:gradient vgg16:64:gradient \
            alexnet:512:gradient efficientnet_lite0:256:gradient resnet18:128:training \
            resnet50:128:attack fashion:512:attack
comma = ,
# PEERS holds words that choose attacks, as PEERS='apgd fab'.
bench-peers: all ## the attacks beside those of the libraries that BENCH_PYTHON has
	@$(BUILD)/advrt tests/bench/peers.lua $(PEERS)
bench-precision: all ## what --precision mixed and bf16 do to gradients and flips
	@rm -rf $(BUILD)/precision $(BUILD)/precision-photos
	@$(BUILD)/advrt tests/bench/precision.lua --out $(BUILD)/precision
	@[ ! -e $(BUILD)/photos/images ] || $(BUILD)/advrt tests/bench/precision.lua $(LITE0) $(PHOTOS) \
	  --magnitude 0.05 --out $(BUILD)/precision-photos
# SCALE holds more options, as SCALE='--studies memory,start'.
bench-scale: all ## how time and memory grow with batch, size, threads, images and attacks, drawn
	@rm -rf $(BUILD)/scale
	@$(BUILD)/advrt tests/bench/scale.lua --out $(BUILD)/scale $(SCALE)
instructions: all ## write anew the counts of instructions that the check holds small works to
	@$(BUILD)/advrt tests/bench/instructions.lua --write
format: ## lay out the C sources
	@clang-format -i $(SOURCES) $(HEADERS) $(TESTS) $(CUDA_SOURCES) $(MPI_C) packaging/launcher.c
lint: $(BUILD)/advrt ## layout, the order of the rooms, luacheck, shellcheck, the tags of commands in the pages
	@clang-format --dry-run -Werror $(SOURCES) $(HEADERS) $(TESTS) $(CUDA_SOURCES) $(MPI_C) \
	  packaging/launcher.c
	@tests/order
	@luacheck --quiet .
	@shellcheck $(SCRIPTS)
	@$(BUILD)/advrt tests/pages.lua

# Stages of the check: name, the seconds it may take on two cores, command.
check: deps-dev ## what CI runs: build, lint, tests, tests under the sanitizers; 30 minutes at most
	@tests/stages \
	  build      240 '$(MAKE) -j2 all programs' \
	  lint        90 '$(MAKE) lint' \
	  tests     1500 'tests/run $(BUILD)' \
	  counts     120 '$(BUILD)/advrt tests/bench/instructions.lua' \
	  onednn3   1200 '$(MAKE) -j2 test-onednn3' \
	  onnx       300 '$(MAKE) test-onnx' \
	  cuda      1500 '$(MAKE) -j2 test-standin' \
	  bundle     200 '$(MAKE) test-bundle-here' \
	  tsan       300 '$(MAKE) -j2 tsan' \
	  asan-build 400 '$(MAKE) -j2 asan' \
	  asan-tests 3000 'TEST_LIMIT=1200 tests/run build/asan'

# LDoc cannot make the reference: most of what a tensor or a net can do is written in C, and told of
# in lua/advrt without a definition that LDoc could hang it on. `?` in a session reads the same text.
.PHONY: reference
reference: $(BUILD)/advrt
	@rm -rf $(BUILD)/docs
	@$(BUILD)/advrt packaging/reference.lua $(BUILD)/docs
docs: reference ## the reference of every Lua function in build/docs; it and all pages in build/site/html
	@$(BUILD)/advrt packaging/site/build.lua $(BUILD)/site

# What a folder is installed as, and what is made for an installation.
SHARE     = $(DESTDIR)$(PREFIX)/share
# A name with a blank, which is none of advrt's own files, would be two for make.
INSTALLED = $(shell find lua nets experiments -type f ! -name '*[[:space:]]*')
FILLED    = advrt.1:man/man1/advrt.1 advrt.bash.in:bash-completion/completions/advrt \
            advrt.pc.in:pkgconfig/advrt.pc
# Neither make nor the shell below takes these for a part of a name.
.PHONY: check-prefix
check-prefix:
	@case '$(subst ','\'',$(DESTDIR)$(PREFIX))' in \
	*[[:space:]\'\"\$$\`\\\;\&\|\<\>\(\)\*\?\[\]]*) \
	  echo "make install: DESTDIR and PREFIX hold no blanks, quotes or other signs of the shell; install" \
	    "elsewhere and move the folders bin, lib and share" >&2; exit 1 ;; esac
install: check-prefix all reference ## into $(DESTDIR)$(PREFIX): bin/advrt and what is below share
	@mkdir -p $(BUILD)/packaging
	@$(BUILD)/advrt packaging/fill.lua $(PREFIX) $(BUILD)/packaging \
	  $(foreach f,$(FILLED),packaging/$(firstword $(subst :, ,$f)))
	@install -D -m 755 $(BUILD)/advrt $(DESTDIR)$(PREFIX)/bin/advrt
	@for f in $(PLUGIN); do \
	  install -D -m 755 $$f $(DESTDIR)$(PREFIX)/lib/advrt/$${f##*/} || exit 1; done
	@for f in $(INSTALLED); do install -D -m 644 $$f $(SHARE)/advrt/$$f || exit 1; done
	@for f in $(FILLED); do \
	  install -D -m 644 $(BUILD)/packaging/$${f%%:*} $(SHARE)/$${f#*:} || exit 1; done
	@install -D -m 644 -t $(SHARE)/doc/advrt *.md LICENSE CITATION.cff
	@install -D -m 644 -t $(SHARE)/doc/advrt/docs docs/*.md
	@install -D -m 644 -t $(SHARE)/doc/advrt/docs/pictures docs/pictures/*
	@install -D -m 644 -t $(SHARE)/doc/advrt/reference $(BUILD)/docs/*
	@echo "  installed $(DESTDIR)$(PREFIX)/bin/advrt and $(SHARE)/advrt"
uninstall: check-prefix ## remove what install has installed, and folders that are empty then
	@rm -f $(DESTDIR)$(PREFIX)/bin/advrt $(DESTDIR)$(PREFIX)/lib/advrt/advrt_cuda.so \
	  $(DESTDIR)$(PREFIX)/lib/advrt/advrt_mpi.so \
	  $(foreach f,$(FILLED),$(SHARE)/$(lastword $(subst :, ,$f)))
	@cd $(SHARE)/advrt 2>/dev/null && rm -f $(INSTALLED) || true
	@rm -rf $(SHARE)/doc/advrt
	@for d in $(SHARE)/advrt $(DESTDIR)$(PREFIX)/lib/advrt; do \
	  [ ! -d $$d ] || find $$d -depth -type d -empty -delete; done
	@$(if $(filter-out /usr /usr/local,$(PREFIX)),cd $(DESTDIR)$(PREFIX) 2>/dev/null && \
	  rmdir -p --ignore-fail-on-non-empty $(sort bin lib share/doc $(foreach f,$(FILLED),share/$(dir \
	  $(lastword $(subst :, ,$f))))) 2>/dev/null; rmdir $(DESTDIR)$(PREFIX) 2>/dev/null || true)
deb: deps-dev ## build/advrt_VERSION_ARCH.deb, a Debian package without the plugins
	@$(MAKE) --no-print-directory PLUGIN= all
	@packaging/deb $(BUILD)
# Beside deb's: what runs on systems without Debian's packages. tests/bundle says how far.
RELEASES = bullseye bookworm trixie focal noble
BUNDLE   = $(BUILD)/advrt-$(VERSION)-linux-x86_64.tar.xz
VERSION := $(shell sed -n 's/.*SYSTEM_VERSION "\(.*\)"/\1/p' runtime/bind/system.h)
# The folder $2 of $(BUILD)/$1 as the archive $3; the same bytes for the same files.
pack = tar -C $(BUILD)/$1 --sort=name --owner=0 --group=0 --numeric-owner --mtime='2026-01-01 UTC' -c $2 | \
  xz -T2 -6 >$3.part && mv $3.part $3 && echo "  $3 ($$(du -m $3 | cut -f1) MB)"
.PHONY: bundle bundle-folder wheel test-bundle test-bundle-here
bundle-folder: deps
	@$(MAKE) --no-print-directory all
	@packaging/bundle $(BUILD)
bundle: bundle-folder ## build/advrt-VERSION-linux-x86_64.tar.xz, which runs from any folder of any Linux without root
	@$(call pack,bundle,advrt-$(VERSION)-linux-x86_64,$(BUNDLE))
wheel: deps-dev bundle-folder ## build/advrt-VERSION-py3-none-PLATFORM.whl, the bundle for pip
	@packaging/wheel $(BUILD)
test-bundle: bundle wheel ## bundle and wheel in an empty root and in roots of RELEASES, which debootstrap makes
	@third_party/install bundle || true
	@tests/bundle $(BUILD) $(RELEASES)
test-bundle-here: wheel
	@tests/bundle $(BUILD)
PACK_TESTS = $(addprefix $(BUILD)/tests/,test_plan test_layers test_tokens device_ops advrt_plain.so)
GPU_PACK = $(BUILD)/advrt-gpu-$(VERSION)-linux-x86_64.tar.xz
.PHONY: gpu-pack gpu-pack-folder test-gpu-pack
gpu-pack-folder: deps-dev bundle-folder
	@$(MAKE) --no-print-directory $(PACK_TESTS)
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/pack cuda-all
	@packaging/gpu-pack $(BUILD) $(BUILD)/pack/advrt_cuda.so
gpu-pack: gpu-pack-folder ## build/advrt-gpu-VERSION-linux-x86_64.tar.xz: checks and measures a GPU with one script
	@$(call pack,gpu-pack,advrt-gpu-$(VERSION)-linux-x86_64,$(GPU_PACK))
test-gpu-pack: gpu-pack-folder standin ## that script, on the stand-in for CUDA
	@tests/gpu_pack $(BUILD)
clean: ## remove build/
	rm -rf build
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

-include $(OBJECTS:.o=.d) $(TESTS:%.c=$(BUILD)/%.d) $(BUILD)/tests/plain.d
