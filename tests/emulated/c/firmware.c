/* Firmware around a static bundle's self-test: start-up code, the two functions of the C library
 * that kernels may need, and output by semihosting (QEMU's, or a debugger's). */
#include <stddef.h>
#include <stdint.h>

int32_t firmware_selftest(float *memory, size_t floats, void (*say)(const char *text));

extern uint32_t stack_top[], data_load[], data_start[], data_end[], bss_start[], bss_end[];
static float memory[MEMORY_FLOATS];

void *memcpy(void *to, const void *from, size_t bytes) {
  unsigned char *a = to;
  const unsigned char *b = from;
  while (bytes-- != 0) *a++ = *b++;
  return to;
}

void *memset(void *to, int value, size_t bytes) {
  unsigned char *a = to;
  while (bytes-- != 0) *a++ = (unsigned char)value;
  return to;
}

void __aeabi_memcpy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void __aeabi_memcpy4(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void __aeabi_memcpy8(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void __aeabi_memset(void *to, size_t bytes, int value) { memset(to, value, bytes); }
void __aeabi_memset4(void *to, size_t bytes, int value) { memset(to, value, bytes); }
void __aeabi_memset8(void *to, size_t bytes, int value) { memset(to, value, bytes); }
void __aeabi_memclr(void *to, size_t bytes) { memset(to, 0, bytes); }
void __aeabi_memclr4(void *to, size_t bytes) { memset(to, 0, bytes); }
void __aeabi_memclr8(void *to, size_t bytes) { memset(to, 0, bytes); }

static uint32_t semihosting(uint32_t operation, const void *argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static void say(const char *text) { semihosting(0x04, text); /* SYS_WRITE0 */ }

static void leave(uint32_t status) {
  const uint32_t how[] = {0x20026, status}; /* ADP_Stopped_ApplicationExit */
  for (;;) semihosting(0x20, how);          /* SYS_EXIT_EXTENDED */
}

void reset(void) {
  /* The floating-point unit is off after reset: full access to coprocessors 10 and 11. */
  *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
  __asm__ volatile("dsb\n isb");
  for (uint32_t *from = data_load, *to = data_start; to < data_end;) *to++ = *from++;
  for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
  leave(firmware_selftest(memory, MEMORY_FLOATS, say) == 0 ? 0 : 1);
}

static void fault(void) {
  say("fault\n");
  leave(2);
}

__attribute__((section(".vectors"), used)) static void *const vectors[] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
    (void *)fault};
