# The MPI plugin, which connects the processes of one run; built if Open MPI is found.

MPICC     := $(firstword $(shell command -v mpicc.openmpi mpicc 2>/dev/null))
MPI_COMPILE := $(if $(MPICC),$(shell $(MPICC) --showme:compile 2>/dev/null))
MPI_LINK  := $(if $(MPICC),$(shell $(MPICC) --showme:link 2>/dev/null))
PLUGIN    := $(PLUGIN) $(if $(MPI_LINK),$(BUILD)/advrt_mpi.so)
MPI_MK    := $(lastword $(MAKEFILE_LIST))
MPI_C     := runtime/dist/mpi/mpi.c

# Ignores warnings in Open MPI's headers. Symbols are hidden for the same reason as in the CUDA plugin.
$(BUILD)/advrt_mpi.so: $(MPI_C:%.c=$(BUILD)/%.o)
	@echo "  link $@"
	$(Q)$(CC) -shared -o $@ $^ $(MPI_LINK)
$(MPI_C:%.c=$(BUILD)/%.o): $(BUILD)/%.o: %.c $(MPI_MK)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CC) -Iruntime -MMD -MP $(patsubst -I%,-isystem %,$(MPI_COMPILE)) -std=gnu11 -O2 -g -fPIC \
	  -fvisibility=hidden -Wall -Wextra -Wshadow -Wvla -Werror -c -o $@ $<

standin: $(if $(and $(STANDIN),$(MPI_LINK)),$(BUILD)/standin/advrt_mpi.so)

-include $(MPI_C:%.c=$(BUILD)/%.d)
