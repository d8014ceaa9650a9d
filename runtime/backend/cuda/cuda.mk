# The CUDA plugin, if the toolkit is found: in CUDA_HOME, in /usr/local/cuda, or by pkg-config.
# Also the stand-in for its tests. It needs the toolkit's headers and g++, but no GPU.

CUDA_HOME := $(or $(CUDA_HOME),$(wildcard /usr/local/cuda),$(shell pkg-config --variable=cudaroot cuda 2>/dev/null))
CUDA_LIBS := $(patsubst %/libcudart.so,%,$(firstword $(wildcard $(CUDA_HOME)/lib64/libcudart.so $(CUDA_HOME)/lib/libcudart.so)))
CUDA_HEADERS := $(wildcard $(CUDA_HOME)/include/cudnn.h)
NVCC      := $(wildcard $(CUDA_HOME)/bin/nvcc)
CXX       := g++
# By default for one virtual architecture; the driver compiles it for the present GPU.
CUDA_ARCH  = -gencode arch=compute_75,code=compute_75
CUDA_EVERY = $(foreach a,75 80 86 89 90 100 120,-gencode arch=compute_$(a),code=sm_$(a)) \
             -gencode arch=compute_120,code=compute_120

CUDA_MK   := $(lastword $(MAKEFILE_LIST))
CUDA_C    := $(sort $(wildcard runtime/backend/cuda/*.c))
CUDA_CU   := $(sort $(wildcard runtime/backend/cuda/*.cu))
CUDA_PLUGIN := $(if $(and $(NVCC),$(CUDA_LIBS),$(CUDA_HEADERS)),$(BUILD)/advrt_cuda.so)
PLUGIN    := $(CUDA_PLUGIN)
STANDIN   := $(if $(and $(CUDA_HEADERS),$(shell command -v $(CXX) 2>/dev/null)),$(BUILD)/standin)

CUDA_CPPFLAGS = -Iruntime $(ONEDNN:%=-isystem %/include) -isystem $(CUDA_HOME)/include -MMD -MP
# Hidden symbols: the plugin's names must not collide with equal names of the program.
CUDA_CFLAGS   = -std=gnu11 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Wshadow -Wvla -Werror
# Products and sums are not contracted, so elementwise results equal the CPU's.
NVCCFLAGS     = -std=c++17 -O3 -fmad=false -Werror all-warnings -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Werror

.PHONY: cuda cuda-all
cuda: ## build/advrt_cuda.so, or why it cannot be built
	$(if $(CUDA_PLUGIN),@$(MAKE) --no-print-directory $(CUDA_PLUGIN),@echo "no CUDA toolkit with cuDNN: set CUDA_HOME"; exit 1)
cuda-all: ## the plugin with machine code for sm_75 to sm_120, and PTX for later ones
	@$(MAKE) --no-print-directory cuda CUDA_ARCH='$(CUDA_EVERY)'

$(BUILD)/advrt_cuda.so: $(CUDA_C:%.c=$(BUILD)/cuda/%.o) $(CUDA_CU:%.cu=$(BUILD)/cuda/%.o)
	@echo "  link $@"
	$(Q)$(CC) -shared -o $@ $^ -L$(CUDA_LIBS) -Wl,-rpath,$(CUDA_LIBS) -lcudart -lcublas -lcudnn -ldl -lm
$(BUILD)/cuda/%.o: %.c $(CUDA_MK)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CC) $(CUDA_CPPFLAGS) $(CUDA_CFLAGS) -c -o $@ $<
$(BUILD)/cuda/%.o: %.cu $(BUILD)/cuda/arch $(CUDA_MK)
	@mkdir -p $(@D)
	@echo "  nvcc $<"
	$(Q)$(NVCC) $(CUDA_CPPFLAGS) $(NVCCFLAGS) $(CUDA_ARCH) -c -o $@ $<
$(BUILD)/cuda/arch: FORCE
	@mkdir -p $(@D)
	@echo '$(CUDA_ARCH)' | cmp -s - $@ || echo '$(CUDA_ARCH)' >$@

# --- the stand-in: the same sources, with NVIDIA's headers and the stand-in's libraries ---

STANDIN_NCCL = tests/cuda_standin/nccl.cpp
STANDIN_CPP := $(filter-out $(STANDIN_NCCL),$(sort $(wildcard tests/cuda_standin/*.cpp)))
STANDIN_TEST = $(BUILD)/standin/tests/cuda_standin/test_standin.o
CUDA_SOURCES = $(CUDA_C) $(CUDA_CU) $(STANDIN_CPP) $(STANDIN_NCCL) tests/cuda_standin/driver.c \
               tests/cuda_standin/test_standin.cu
STANDIN_OBJECTS = $(CUDA_C:%.c=$(BUILD)/standin/%.o) $(CUDA_CU:%.cu=$(BUILD)/standin/%.o)
STANDIN_CXXFLAGS = -std=c++17 -g -fPIC -ffp-contract=off -Wall -Wextra -Wshadow -Werror

.PHONY: standin
standin: $(if $(STANDIN),$(addprefix $(BUILD)/standin/,advrt advrt_cuda.so libcuda.so.1 libnccl.so.2 test_standin))
$(BUILD)/standin/advrt $(BUILD)/standin/advrt_mpi.so: $(BUILD)/standin/%: $(BUILD)/%
	@mkdir -p $(@D)
	$(Q)cp $< $@
$(BUILD)/standin/advrt_cuda.so: $(STANDIN_OBJECTS) $(BUILD)/standin/libstandin.so
	@echo "  link $@"
	$(Q)$(CC) -shared --coverage -o $@ $(STANDIN_OBJECTS) -L$(@D) -Wl,-rpath,'$$ORIGIN' -lstandin -ldl -lm
$(BUILD)/standin/libstandin.so: $(STANDIN_CPP:%.cpp=$(BUILD)/standin/%.o)
	@echo "  link $@"
	$(Q)$(CXX) $(LDFLAGS) -shared -o $@ $^ -ldnnl -ldl
$(BUILD)/standin/libnccl.so.2: $(STANDIN_NCCL:%.cpp=$(BUILD)/standin/%.o) $(BUILD)/standin/libstandin.so
	@echo "  link $@"
	$(Q)$(CXX) -shared -o $@ $< -L$(@D) -Wl,-rpath,'$$ORIGIN' -lstandin
$(BUILD)/standin/libcuda.so.1: tests/cuda_standin/driver.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -O2 -fPIC -Wall -Wextra -Werror -shared -o $@ $<
$(BUILD)/standin/test_standin: $(STANDIN_TEST) $(BUILD)/standin/libstandin.so
	@echo "  link $@"
	$(Q)$(CXX) -o $@ $< -L$(@D) -Wl,-rpath,'$$ORIGIN' -lstandin -lcmocka
$(BUILD)/standin/%.o: %.c $(CUDA_MK)
	@mkdir -p $(@D)
	@echo "  compile $< for the stand-in"
	@rm -f $(@:.o=.gcda)
	$(Q)$(CC) $(CUDA_CPPFLAGS) $(CUDA_CFLAGS) -O1 --coverage -c -o $@ $<
# The instrumentation reports every memory access to the stand-in.
$(BUILD)/standin/%.o: %.cu $(CUDA_MK)
	@mkdir -p $(@D)
	@echo "  compile $< for the stand-in"
	$(Q)$(CXX) $(CUDA_CPPFLAGS) -Itests/cuda_standin $(STANDIN_CXXFLAGS) -O1 \
	  -fvisibility=hidden -fsanitize=kernel-address -x c++ -c -o $@ $<
$(BUILD)/standin/%.o: %.cpp $(CUDA_MK)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CXX) $(CUDA_CPPFLAGS) $(STANDIN_CXXFLAGS) -O2 -c -o $@ $<

# --- tests: of the device, on the stand-in or on a GPU ---

DEVICE_OPS = $(BUILD)/tests/device_ops
ON_STANDIN = LD_LIBRARY_PATH=$(BUILD)/standin:$$LD_LIBRARY_PATH ADVRT_TEST_DEVICE=cuda \
             ADVRT_TEST_FOLDER=$(BUILD)/standin STANDIN_SEED=$${STANDIN_SEED:-$$(date +%s)}

.PHONY: test-standin check-standin check-gpu coverage-standin
$(DEVICE_OPS): $(BUILD)/tests/c/device_ops.o $(filter-out $(BUILD)/runtime/main.o,$(OBJECTS))
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
ifneq ($(STANDIN),)
test-standin: all programs standin $(DEVICE_OPS) ## the plugin's source on the stand-in, as CI runs it
	@rm -f $(CUDA_C:%.c=$(BUILD)/standin/%.gcda)
	@$(ON_STANDIN) tests/run $(BUILD)
	@$(MAKE) --no-print-directory coverage-standin
check-standin: deps-dev ## the same, with all seven nets' golden numbers
	@TEST_LIMIT=3600 ADVRT_TEST_ALL=1 $(MAKE) --no-print-directory -j2 test-standin
else
test-standin check-standin:
	@echo "no CUDA headers or no g++: the CUDA plugin's source is not tested here"
endif
# Fails if the last tests covered less than 90 % of the lines of the plugin's C code.
coverage-standin:
	@gcov -n $(CUDA_C:%.c=$(BUILD)/standin/%.o) 2>/dev/null | awk -F'[:% ]+' \
	  '/^File .runtime.backend.cuda.*c.$$/ {own = 1} /^Lines/ && own {run += $$3 * $$5 / 100; all += $$5; own = 0} \
	  END {printf "lines of the plugin that ran: %.1f %% of %d\n", 100 * run / (all ? all : 1), all; exit !(all && run >= 0.9 * all)}'
check-gpu: all programs $(DEVICE_OPS) ## the device's tests on this machine's GPU
	@$(BUILD)/advrt --device cuda -e ''
	@ADVRT_TEST_DEVICE=cuda ADVRT_TEST_FOLDER=$(BUILD) ADVRT_TEST_ALL=1 TEST_LIMIT=1200 tests/run $(BUILD)

-include $(CUDA_C:%.c=$(BUILD)/cuda/%.d) $(CUDA_CU:%.cu=$(BUILD)/cuda/%.d) \
  $(STANDIN_OBJECTS:.o=.d) $(STANDIN_TEST:.o=.d) $(STANDIN_CPP:%.cpp=$(BUILD)/standin/%.d) \
  $(STANDIN_NCCL:%.cpp=$(BUILD)/standin/%.d)
